"""How another machine's clock stands to the manager's, from the four stamps of a heartbeat's exchange.

One exchange gives an interval that holds the offset for certain: the heartbeat cannot arrive before it was
sent, nor can its acknowledgement. Between exchanges the interval widens by the drift that two clocks can
have; a new exchange is intersected with it, so the tightest recent one rules until drift has outgrown it.
(Marzullo's algorithm, for two.)
"""

from __future__ import annotations

from .frozen import frozen
from .model import ClockBound, Stamp

# Two crystals of ±100 ppm each, the worst that computers are sold with.
DRIFT_PPM = 200
# What an offset may be: with the drift of centuries it still fits into the 64 bits in which it is told.
_LARGEST_NS = 1 << 62


@frozen
class Interval:
    """The other clock minus the manager's lies in [low_ns, high_ns], as of the manager's `at_ns`."""

    boot_id: str
    low_ns: int
    high_ns: int
    at_ns: int


def measure(exchange: tuple[Stamp, Stamp, Stamp, Stamp], manager_boot_id: str) -> Interval | None:
    """The interval of one exchange: sent there, received here, ack sent here, ack received there.

    None where the stamps are not of one boot each, or cannot be true (the interval would be empty, or beyond
    what clocks say).
    """
    sent, received, ack_sent, ack_received = exchange
    if sent.boot_id != ack_received.boot_id:
        return None
    if received.boot_id != manager_boot_id or ack_sent.boot_id != manager_boot_id:
        return None
    low = sent.monotonic_ns - received.monotonic_ns
    high = ack_received.monotonic_ns - ack_sent.monotonic_ns
    if not -_LARGEST_NS <= low <= high <= _LARGEST_NS:
        return None
    return Interval(sent.boot_id, low, high, ack_sent.monotonic_ns)


def grown(interval: Interval, now_ns: int) -> Interval:
    """The interval as it must be taken at another time: wider by the drift on both sides."""
    drift = abs(now_ns - interval.at_ns) * DRIFT_PPM // 1_000_000
    return Interval(interval.boot_id, interval.low_ns - drift, interval.high_ns + drift, now_ns)


def merge(old: Interval | None, new: Interval) -> Interval:
    """What both say; the new one alone after a reboot, or where they contradict each other."""
    if old is None or old.boot_id != new.boot_id:
        return new
    aged = grown(old, new.at_ns)
    low, high = max(aged.low_ns, new.low_ns), min(aged.high_ns, new.high_ns)
    return Interval(new.boot_id, low, high, new.at_ns) if low <= high else new


def bound(interval: Interval, now_ns: int) -> ClockBound:
    """The interval as an offset ± error, as of `now_ns`."""
    wide = grown(interval, now_ns)
    return ClockBound(wide.boot_id, (wide.low_ns + wide.high_ns) // 2, (wide.high_ns - wide.low_ns + 1) // 2)


def on_manager_clock(
    stamp: Stamp | None, interval: Interval | None, now: Stamp, not_before_ns: int | None = None
) -> tuple[Stamp, int]:
    """A volunteer's stamp on the manager's clock, and how far that may be off, in nanoseconds.

    Causality bounds it too: what was told `now` had happened by now, and an answer's effect not before its
    command was sent (`not_before_ns`). Where nothing else is known that alone is the bound; whoever gives no
    lower bound wants the best guess alone, which is `now` then.
    """
    low, high = not_before_ns, now.monotonic_ns
    if stamp is not None and interval is not None and interval.boot_id == stamp.boot_id:
        wide = grown(interval, now.monotonic_ns)
        earliest, latest = stamp.monotonic_ns - wide.high_ns, stamp.monotonic_ns - wide.low_ns
        clipped_low = earliest if low is None else max(earliest, low)
        clipped_high = min(latest, high)
        # A contradiction means that the stamp is wrong: causality stands.
        if clipped_low <= clipped_high:
            low, high = clipped_low, clipped_high
    if low is None:
        return now, 0
    low = min(low, high)
    middle = (low + high) // 2
    return Stamp(now.boot_id, middle, now.utc_ns - (now.monotonic_ns - middle)), (high - low + 1) // 2
