"""The faults that a ``Nemesis`` chooses from, and what it says of itself.

::

    from syndicate.client_api import Chaos, Nemesis, nemesis

    with Chaos.from_env() as chaos:
        monkey = Nemesis(
            chaos,
            seed=4711,
            faults=[
                nemesis.kill(rate=0.1, duration=(2, 5)),
                nemesis.partition("majority-ring", rate=0.05, duration=8),
                nemesis.degrade(loss="10%", delay="50ms", rate=0.1, duration=5),
            ],
        )
        with monkey.running(60):
            measure()
        chaos.finish("pass", metrics=monkey.metrics())

``rate`` is how often a second the fault begins while it does not hold, on average: 0.1 begins it some 10 s
after the last one ended. ``duration`` is how long it holds: a timedelta, seconds, a text (``"500ms"``), or
the least and the most of what is drawn. ``whom`` is at how many targets at once: ``"one"``, ``"minority"``,
``"majority"``, ``"all"``, or a number. Each function raises ValueError for what is none of that.
"""

from __future__ import annotations

from syndicate.client_api import _units
from syndicate.client_api._nemesis_plan import Event, Planned, Schedule, Value
from syndicate.client_api._nemesis_script import Refused, Window
from syndicate.client_api._results import Shape
from syndicate.client_api._units import Duration

__all__ = [
    "Event",
    "Planned",
    "Refused",
    "Schedule",
    "Window",
    "degrade",
    "disconnect",
    "disk_full",
    "kill",
    "partition",
    "pause",
    "reset",
    "signal",
]

Lasts = Duration | tuple[Duration, Duration]
DEFAULT_RATE = 0.1
DEFAULT_DURATION_S = 5.0


def kill(
    *,
    rate: float = DEFAULT_RATE,
    duration: Lasts = DEFAULT_DURATION_S,
    whom: str | int = "one",
    with_disk: bool = True,
) -> Planned:
    """Ends tasks, and revives them after ``duration``, with their disks or without.

    A task that is dead when its client is killed itself stays dead: a kill has no lease.
    """
    return _planned("kill", rate, duration, whom, {"with_disk": with_disk})


def pause(
    *, rate: float = DEFAULT_RATE, duration: Lasts = DEFAULT_DURATION_S, whom: str | int = "one"
) -> Planned:
    """Freezes tasks."""
    return _planned("pause", rate, duration, whom, {})


def disconnect(
    *, rate: float = DEFAULT_RATE, duration: Lasts = DEFAULT_DURATION_S, whom: str | int = "one"
) -> Planned:
    """Cuts members from all masters and slaves, in silence."""
    return _planned("disconnect", rate, duration, whom, {})


def reset(
    *, rate: float = DEFAULT_RATE, duration: Lasts = DEFAULT_DURATION_S, whom: str | int = "one"
) -> Planned:
    """Cuts members from all masters and slaves, and tells TCP."""
    return _planned("reset", rate, duration, whom, {})


def partition(
    shape: Shape | str = Shape.RANDOM_HALVES,
    *,
    rate: float = DEFAULT_RATE,
    duration: Lasts = DEFAULT_DURATION_S,
    one_way: bool = False,
) -> Planned:
    """Cuts masters and slaves from each other in a shape, drawn anew each time; never two at once.

    The one member of ``bridge`` and ``isolate-one`` is drawn among the targets.
    """
    try:
        known = Shape(shape)
    except ValueError:
        raise ValueError(f"{shape!r} is no shape: there are {', '.join(Shape)}") from None
    return _planned("partition", rate, duration, "all", {"shape": known.value, "one_way": one_way})


def degrade(
    *,
    loss: float | str = 0.0,
    bandwidth: float | str | None = None,
    delay: Duration = 0.0,
    jitter: Duration = 0.0,
    duplicate: float | str = 0.0,
    corrupt: float | str = 0.0,
    reorder: float | str = 0.0,
    one_way: bool = False,
    rate: float = DEFAULT_RATE,
    duration: Lasts = DEFAULT_DURATION_S,
    whom: str | int = "one",
) -> Planned:
    """Makes the network of members worse, as ``Chaos.degrade``; ``bandwidth`` is its ``rate``."""
    options: dict[str, Value] = {
        "loss": _units.percent(loss, "loss"),
        "rate": 0 if bandwidth is None else _units.bits_a_second(bandwidth, "bandwidth"),
        "delay": _units.seconds(delay, "delay"),
        "jitter": _units.seconds(jitter, "jitter"),
        "duplicate": _units.percent(duplicate, "duplicate"),
        "corrupt": _units.percent(corrupt, "corrupt"),
        "reorder": _units.percent(reorder, "reorder"),
    }
    options = {name: value for name, value in options.items() if value}
    if not options:
        raise ValueError("degrade without loss, bandwidth, delay, duplicate, corrupt or reorder does nothing")
    return _planned("degrade", rate, duration, whom, {**options, "one_way": one_way})


def disk_full(
    *, rate: float = DEFAULT_RATE, duration: Lasts = DEFAULT_DURATION_S, whom: str | int = "one"
) -> Planned:
    """Leaves no room on disks."""
    return _planned("disk-full", rate, duration, whom, {})


def signal(
    number: int | str = "QUIT",
    *,
    rate: float = DEFAULT_RATE,
    duration: Lasts = 1.0,
    whom: str | int = "one",
) -> Planned:
    """Sends a signal to tasks; those that it ends are revived after ``duration``, others are left alone."""
    return _planned("signal", rate, duration, whom, {"signal": _units.signal_number(number)})


def _planned(kind: str, rate: float, duration: Lasts, whom: str | int, options: dict[str, Value]) -> Planned:
    least, most = duration if isinstance(duration, tuple) else (duration, duration)
    bounds = [round(_units.seconds(each, f"duration of {kind}") * 1000) for each in (least, most)]
    return Planned(kind, rate, bounds[0], bounds[1], whom, options)
