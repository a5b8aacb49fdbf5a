"""A second cluster whose daemons are started again and again, each time without another defence.

Its attacks succeed, so it stands behind a guard that is not the product's: bounds of memory and processes on
all its tasks together, and a bait where a real attacker would look for the host.
"""

from __future__ import annotations

from pathlib import Path

from syndicate.client_api import SchedulerError

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack
from tests.attacks.defence import find
from tests.support.cluster import ROOT, Cluster, eventually

WITHOUT = Path(__file__).with_name("without.py")
# Of all its tasks together: enough for the attacks, far less than hurts a machine.
_GUARD = {
    "pids": {"pids.max": "1500"},
    "memory": {"memory.limit_in_bytes": str(3 << 30), "memory.max": str(3 << 30)},
}
_READY_S = 60.0
_FREE_S = 10.0


class WeakArena:
    """One cluster, at any time without one defence or whole."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._cluster = arena.cluster
        self._plain = {name: list(daemon.argv) for name, daemon in self._cluster.daemons.items()}
        self._lacks = dict.fromkeys(self._plain, "")  # by daemon: the defence that it was started without
        self._scratch = arena.bait.with_name("scratch")
        self._scratch.mkdir(mode=0o755, exist_ok=True)
        guard(self._cluster)

    def without(self, name: str) -> Arena:
        """The arena lacking this defence; a daemon is started again only where it must be."""
        wanted = dict.fromkeys(self._plain, "")
        if name:
            wanted[find(name)[0].daemon] = name
        if wanted != self._lacks or not self._is_well():
            self._change(wanted)
        return self.arena

    def _all_live(self) -> bool:
        return all(Path(f"/proc/{daemon.pid}/exe").exists() for daemon in self._cluster.daemons.values())

    def _is_well(self) -> bool:
        """Whether the attacks before have left it so that the next can be run."""
        try:
            if self._all_live():
                eventually("only the bystander runs", self.arena.is_free, _FREE_S)
                return True
        except (TimeoutError, SchedulerError):
            pass
        return False

    def _change(self, wanted: dict[str, str]) -> None:
        """Starts again what differs; all, where what runs is not well."""
        same = self._lacks == wanted
        is_cleared = self._all_live() and self.is_cleared()
        for daemon, name in wanted.items():
            if same or not is_cleared or self._lacks[daemon] != name:
                self._lacks[daemon] = "?"  # until it is known to run
                self._restart(daemon, name)
        try:
            eventually("the keeper listens", (self._cluster.run_dir / "keeper.sock").exists, _READY_S)
            guard(self._cluster)
            self.arena.clear()
            eventually("all slots are free", self.arena.is_free, _READY_S)
        except (TimeoutError, SchedulerError) as error:
            raise AssertionError(f"not ready: {error}\n{self._cluster.daemon_logs()}") from error
        self._lacks = wanted

    def is_cleared(self) -> bool:
        """Whether all jobs were ended. A weakened daemon may do anything, a whole one must end them."""
        try:
            self.arena.clear()
        except (AssertionError, SchedulerError):
            if not any(self._lacks.values()):
                raise
            return False
        return True

    def _restart(self, which: str, name: str) -> None:
        """As it was, or without the defence."""
        argv = weakened(self._plain[which], which, name) if name else self._plain[which]
        daemon = self._cluster.daemons[which]
        daemon.stop()
        if which == "manager":
            (self._cluster.dir / "manager" / "manager.ready").unlink(missing_ok=True)
        # What a defence's patch lays down goes with the test's own folder.
        daemon.restart_as(argv, TMPDIR=str(self._scratch))

    def assert_succeeds(self, attack: Attack) -> None:
        """Without its defence it must, once in some tries: one success shows that the attack is real.

        An attack is a race with the machine, and one before it may have left the cluster slow.
        """
        for is_last in (False, False, True):
            try:
                self.without(attack.without).assert_succeeds(attack)
                return
            except (AssertionError, SchedulerError):
                if is_last:
                    raise
                self._lacks = dict.fromkeys(self._plain, "?")  # each daemon is started afresh

    def assert_repelled(self, attack: Attack) -> None:
        """Also where all that it takes for granted is so."""
        self.without(attack.given).assert_repelled(attack)

    def close(self) -> None:
        """The cluster whole again, so that it clears up as it would."""
        self.without("")


def weakened(argv: list[str], which: str, name: str) -> list[str]:
    """A daemon's command line that starts it without a defence."""
    if which == "keeper":  # python -P -m MODULE CONFIG
        python, rest = argv[0], argv[argv.index("-m") + 2 :]
        return [python, "-P", str(WITHOUT), name, *rest]
    # bwrap … setpriv … COMMAND ARGUMENTS, the first of which is a script of this interpreter's folder.
    at = next(number for number, word in enumerate(argv) if word.endswith(f"/syndicate-{which}"))
    python = str(Path(argv[at]).with_name("python"))
    argv = [*argv[:at], python, "-P", str(WITHOUT), name, *argv[at + 1 :]]
    # It sees what it imports, and must see what weakens it.
    at, tests = argv.index("--chdir"), str(ROOT / "tests")
    return [*argv[:at], "--ro-bind", tests, tests, *argv[at:]]


def guard(cluster: Cluster) -> None:
    """Bounds around all tasks of a cluster, by the controllers that the machine has."""
    mounts = Path("/sys/fs/cgroup")
    for controller, values in _GUARD.items():
        for mount in (mounts / controller, mounts, mounts / "unified"):
            folder = mount / cluster.cgroup_name
            for name, value in values.items():
                if (folder / name).exists():
                    (folder / name).write_text(value)
