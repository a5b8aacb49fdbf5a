"""A part of a job's output that fits on a page, taken while it streams by."""

from __future__ import annotations

from collections.abc import Iterable

from syndicate.cli.render.log_lines import LineCutter, LogLine
from syndicate.cli.report.run import LogMark, Logs
from syndicate.cli.report.wire import since
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import ReadLogsResponse

MOST_LINES = 1500
_MOST_CHARACTERS = 160


class Thinned:
    """Every n-th line of one task: n doubles whenever there are too many, so that all times stay covered."""

    def __init__(self, most: int) -> None:
        self._most = max(2, most)
        self._each = 1
        self._seen = 0
        self._kept: list[LogMark] = []

    def take(self, mark: LogMark) -> None:
        """One more line."""
        if self._seen % self._each == 0:
            if len(self._kept) == self._most:
                self._kept = self._kept[::2]
                self._each *= 2
            if self._seen % self._each == 0:
                self._kept.append(mark)
        self._seen += 1

    @property
    def kept(self) -> list[LogMark]:
        """The lines that are left, in their order."""
        return self._kept

    @property
    def left_out(self) -> int:
        """How many are not."""
        return self._seen - len(self._kept)


class LogGatherer:
    """Takes pieces of output, gives the lines that are shown: each task has an equal share."""

    def __init__(self, start: Stamp, tasks: int, most: int = MOST_LINES) -> None:
        self._start = start
        self._share = most // max(1, tasks)
        self._cutter = LineCutter()
        self._by_task: dict[str, Thinned] = {}

    def feed(self, answer: ReadLogsResponse) -> None:
        """One piece."""
        self._take(self._cutter.feed(answer))

    def logs(self) -> Logs:
        """What was gathered, by time; call it once, at the end."""
        self._take(self._cutter.rest())
        lines = [mark for thinned in self._by_task.values() for mark in thinned.kept]
        lines.sort(key=lambda mark: mark.at_s)
        return Logs(tuple(lines), sum(thinned.left_out for thinned in self._by_task.values()))

    def _take(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            mark = LogMark(since(self._start, line.at), line.task, shortened(line.text))
            self._by_task.setdefault(line.task, Thinned(self._share)).take(mark)


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """A line that does not fill the page alone."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
