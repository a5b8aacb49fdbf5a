"""What tasks do: scripts instead of programs.

A source digest names a script. The keeper's model looks it up when it "execs make", and the script says when
that run ends and how, or, for a client, which faults it asks for and what it reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .clock import MS, SECOND

NOTHING_RUN = b"make: 'master' is up to date.\n"
KINDS = (
    *("kill", "kill", "revive", "revive", "disconnect", "reconnect", "reset", "degrade"),
    *("pause", "pause", "resume", "fill", "signal", "partition", "partition", "heal"),
)
"""What a client may ask for; see `clients`."""
LASTING = frozenset({"disconnect", "reset", "degrade", "pause", "fill", "partition"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a master or slave: ends `after_ns` from its start with `status`; None: never by itself."""

    after_ns: int | None
    status: int
    says: bytes = b""

    @property
    def good(self) -> bool:
        """Whether the run, if it comes to its end, counts as a success."""
        return self.status == 0 and not self.says


@dataclass(frozen=True, slots=True)
class ChaosStep:
    """A client waits `wait_ns`, then asks for `kind` on the members named in `targets`, by one call.

    A partition's and a Heal's members are everybody; `draw` says of which shape, and how much is healed. What
    lasts ends by itself after `lease_s`.
    """

    wait_ns: int
    kind: str
    targets: tuple[str, ...]
    with_disk: bool = True
    lease_s: float | None = None
    draw: int = 0


@dataclass(frozen=True, slots=True)
class ClientRun:
    """One run of a client: its steps one after the other, then Finish with `outcome` (None: it just exits).

    `lingers` says whether it stays alive after Finish until it is stopped.
    """

    steps: tuple[ChaosStep, ...]
    outcome: int | None
    lingers: bool


@dataclass(frozen=True, slots=True)
class Script:
    """What the tasks of one source are like. Chances in 0 to 1; durations in nanoseconds."""

    longest_ns: int
    fails: float = 0.0
    never_ends: float = 0.0
    bad_source: bool = False
    silent: float = 0.0
    max_steps: int = 0

    def run(self, random: Random, role: str) -> Run:
        """Draws one run of a master or slave."""
        if random.random() < self.never_ends:
            return Run(None, 0)
        after = int(self.longest_ns * random.random() ** 2) + MS
        if random.random() < self.fails:
            return random.choice(
                (Run(after, 2, b"make: *** [master] Error 7\n"), Run(0, 0, NOTHING_RUN), Run(after, 137))
            )
        return Run(after, 0)

    def client(self, random: Random, members: tuple[str, ...]) -> ClientRun:
        """Draws one run of a client among these members (its own name is among them)."""
        steps = []
        for _ in range(random.randint(0, self.max_steps)):
            kind = random.choice(KINDS)
            wait = int(self.longest_ns * random.random() ** 3)
            number = random.choice((1, 1, 1, min(2, len(members)), len(members)))
            targets = tuple(random.sample(members, number))
            lease = random.choice((None, None, None, 0.01, 1.0, 6.0)) if kind in LASTING else None
            draw = random.randrange(1000)
            targets = members if kind in ("partition", "heal") else targets
            steps.append(ChaosStep(wait, kind, targets, random.random() < 0.8, lease, draw))
        outcome = None if random.random() < self.silent else random.choice((1, 1, 1, 2, 3))
        return ClientRun(tuple(steps), outcome, random.random() < 0.3)


def draw_script(random: Random, has_client: bool, patient: bool) -> Script:
    """A script as the students of a course might hand it in; a patient one runs for long."""
    if patient:
        return Script(80 * SECOND, never_ends=0.3)
    longest = int(random.choice((0.2, 2, 10, 25)) * SECOND)
    if random.random() < 0.06:
        return Script(longest, bad_source=True)
    return Script(
        longest,
        fails=random.choice((0.0, 0.0, 0.3)),
        never_ends=random.choice((0.0, 0.1, 0.9)) if has_client else random.choice((0.0, 0.0, 0.0, 0.3)),
    )


def draw_client_script(random: Random, patient: bool) -> Script:
    """A client as the staff of a course might write it."""
    if patient:
        return Script(40 * SECOND, max_steps=6)
    longest = int(random.choice((1, 4, 10)) * SECOND)
    return Script(longest, silent=random.choice((0.0, 0.0, 0.4)), max_steps=random.choice((2, 6, 12)))
