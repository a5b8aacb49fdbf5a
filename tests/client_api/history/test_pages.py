"""No line is lost where one window of the file follows the other."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import pytest
from syndicate.client_api.history._pages import WINDOW, Pages


def test_a_line_that_comes_while_the_window_moves_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old window takes nothing more once its end was read: the line waits for the new one."""
    pages = Pages(str(tmp_path / "h"), b"first\n", replace=False)
    meanwhile = threading.Thread(target=pages.append, args=(b"meanwhile\n",))
    real = pages._window

    class Slow(mmap.mmap):
        """A new window; between it and the end of the old one another thread has its turn."""

        def seek(self, *place: int) -> None:
            meanwhile.start()
            meanwhile.join(0.2)  # it waits for this window, or is done with the old one
            super().seek(*place)

    def window(base: int, least: int) -> mmap.mmap:
        made = real(base, least)
        length = len(made)
        made.close()
        return Slow(pages._fd, length, offset=base)

    pages.append(b"x" * (WINDOW - 100) + b"\n")
    monkeypatch.setattr(pages, "_window", window)
    pages.append(b"y" * 200 + b"\n")
    meanwhile.join(60)
    pages.close("closed")
    lines = [line[:9] for line in (tmp_path / "h").read_bytes().splitlines()]
    assert lines[:2] == [b"first", b"x" * 9]
    assert sorted(lines[2:]) == [b"meanwhile", b"y" * 9]  # either may be first in the new window


def test_windows_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    """Whatever is left of one, also nothing at all."""
    for left in range(4):
        path = tmp_path / str(left)
        pages = Pages(str(path), b"a" * (WINDOW - left), replace=False)
        for _ in range(3):
            pages.append(b"bc")
        pages.close("closed")
        assert path.read_bytes() == b"a" * (WINDOW - left) + b"bc" * 3


def test_an_interrupt_while_the_window_moves_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come between the end of the old window and the new one; the next line finds the place."""
    pages = Pages(str(tmp_path / "h"), b"first\n", replace=False)
    pages.append(b"x" * (WINDOW - 100) + b"\n")
    real = pages._freeze

    def freeze() -> int:
        real()
        raise KeyboardInterrupt

    monkeypatch.setattr(pages, "_freeze", freeze)
    with pytest.raises(KeyboardInterrupt):
        pages.append(b"y" * 200 + b"\n")
    monkeypatch.setattr(pages, "_freeze", real)
    pages.append(b"z\n")
    pages.close("closed")
    assert [line[:1] for line in (tmp_path / "h").read_bytes().splitlines()] == [b"f", b"x", b"z"]
