"""Colour where it carries meaning, or none at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """Wraps text in colour when ``enabled``. The text is never needed in colour to be understood."""

    enabled: bool = False

    def good(self, text: str) -> str:
        """It went well."""
        return self._paint("32", text)

    def bad(self, text: str) -> str:
        """It failed."""
        return self._paint("31", text)

    def odd(self, text: str) -> str:
        """It needs a look: a fault, something unknown, something lost."""
        return self._paint("33", text)

    def dim(self, text: str) -> str:
        """Beside the point."""
        return self._paint("2", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled and text else text


PLAIN = Palette()
