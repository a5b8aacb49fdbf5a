"""Which writes a text was made of, where that can be told from the text alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Splitter:
    """The one way to take texts apart; `head` is what every word begins with, where that is what tells."""

    split: Callable[[str], list[str]]
    head: str = ""


def splitter(tokens: Iterable[str]) -> Splitter | None:
    """How texts made of these are taken apart; None where there may be more than one way.

    There is one way where all begin (or all end) with a character that stands nowhere else in them, or where
    all are of one length.
    """
    words = {word for word in tokens if word}
    if not words:
        return None
    heads, tails, lengths = {w[0] for w in words}, {w[-1] for w in words}, {len(w) for w in words}
    if len(lengths) == 1:
        length = lengths.pop()
        return Splitter(lambda text: [text[at : at + length] for at in range(0, len(text), length)])
    if len(heads) == 1:
        head = heads.pop()
        if all(word.count(head) == 1 for word in words):
            return Splitter(lambda text: [head + rest for rest in text.split(head)[1:]], head)
    if len(tails) == 1:
        tail = tails.pop()
        if all(word.count(tail) == 1 for word in words):
            return Splitter(lambda text: [rest + tail for rest in text.split(tail)[:-1]])
    return None


class Lineage:
    """What the texts that were read tell of the way to them, since each was reached write by write.

    A word that one operation alone writes, and that was read, was written where it could be read: the text
    behind it is the beginning of one that was read. And a text that ends with such a word is reached once: it
    can only be left for a longer one while one that begins with it is still to be read.
    """

    def __init__(self, written: Sequence[str], initial: str, texts: Sequence[str]) -> None:
        """`written` by each operation, `texts` that were read, sorted."""
        self._texts = texts
        self._splitter = splitter([*written, initial])
        times = Counter([*written, initial])
        self._single = {word for word, count in times.items() if count == 1 and word and word != initial}
        self._grows: dict[str, bool] = {}
        self.needed: set[str] = set()
        if self._splitter is not None:
            for text, after in zip(texts, [*texts[1:], ""], strict=False):
                if not after.startswith(text):
                    self.needed |= self._single.intersection(self._splitter.split(text))

    def must_grow(self, text: str) -> bool:
        """Whether a text may be left for a longer one only."""
        grows = self._grows.get(text)
        if grows is None:
            grows = self._grows[text] = self._has_longer(text)
        return grows

    def _has_longer(self, text: str) -> bool:
        if self._splitter is None or not text:
            return False
        words = self._splitter.split(text)
        if not words or words[-1] not in self._single:
            return False
        # A longer text goes on with a whole word: another's first letters may be this one's last word.
        onward = text + (self._splitter.head or "\0")
        place = bisect_left(self._texts, onward)
        begin = text + self._splitter.head
        return place < len(self._texts) and self._texts[place].startswith(begin)
