"""What the record adds up to, once every key was read a last time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from check.record import Record


@dataclass(frozen=True)
class Verdict:
    """What is wrong with what the store holds at the end. Each item names a key and a value."""

    lost: tuple[str, ...]  # acknowledged, and not there
    doubled: tuple[str, ...]  # there more than once
    invented: tuple[str, ...]  # never written
    disordered: tuple[str, ...]  # keys whose values are not in the order in which their writer wrote them
    stale: int
    idle: tuple[str, ...]  # windows without a success of each kind

    @property
    def broken(self) -> bool:
        """Whether the store broke a promise."""
        return bool(self.lost or self.doubled or self.invented or self.disordered or self.stale)

    @property
    def outcome(self) -> str:
        """`fail` for a broken promise, `pass` for none and successes in every window, else `unknown`."""
        if self.broken:
            return "fail"
        return "unknown" if self.idle else "pass"


def judge(record: Record, final: Mapping[str, Sequence[str]]) -> Verdict:
    """Compares what was acknowledged with what each key holds in the end."""
    lost, doubled, invented, disordered = [], [], [], []
    for name, key in record.keys.items():
        held = final[name]
        lost += [f"{name} {value}" for value in key.acknowledged if value not in held]
        doubled += [f"{name} {value}" for value, times in Counter(held).items() if times > 1]
        invented += [f"{name} {value}" for value in held if value not in key.attempted]
        order = [key.attempted.index(value) for value in held if value in key.attempted]
        if order != sorted(order):
            disordered.append(name)
    idle = tuple(window.name for window in record.windows if not (window.writes and window.reads))
    return Verdict(tuple(lost), tuple(doubled), tuple(invented), tuple(disordered), len(record.stale), idle)


def table(record: Record) -> list[str]:
    """One line for each window."""
    width = max((len(window.name) for window in record.windows), default=0)
    lines = [f"{'window':<{width}}      from        to  elections  writes  reads"]
    for w in record.windows:
        lines.append(
            f"{w.name:<{width}}  {w.start:6.2f} s  {w.end:6.2f} s  {w.elections:9}  {w.writes:6}  {w.reads:5}"
        )
    return lines


def summary(record: Record, verdict: Verdict, elections: int) -> list[str]:
    """The last lines of the report."""
    lines = [
        f"{record.writes + record.reads:,} operations ({record.writes:,} writes, {record.reads:,} reads), "
        f"{elections} elections, longest time without a write {record.longest_gap:.2f} s",
    ]
    if record.unanswered_writes:
        lines.append(f"writes given up without an answer: {record.unanswered_writes}")
    if verdict.idle:
        lines.append(f"windows without success: {', '.join(verdict.idle)}")
    for what, items in (
        ("written twice", verdict.doubled),
        ("never written but there", verdict.invented),
        ("keys out of order", verdict.disordered),
    ):
        if items:
            lines.append(f"{what}: {len(items)} ({', '.join(items[:5])})")
    for stale in record.stale[:5]:
        lines.append(
            f"stale at {stale.at:.2f} s ({stale.window}): "
            f"{stale.key} showed {stale.seen} of {stale.known} values"
        )
    lines.append(f"stale reads: {verdict.stale}")
    shown = f" ({', '.join(verdict.lost[:5])})" if verdict.lost else ""
    lines.append(f"lost acknowledged writes: {len(verdict.lost)}{shown}")
    return lines
