"""Two distributed systems side by side on ten slots of this machine, broken while they run.

Redis replicates asynchronously and keeps little: its client must find a stale read or a lost write. The Raft
store must lose nothing. Brings a cluster up, submits both, shows what happens while it happens, and takes the
cluster down again, also after Ctrl-C. Ends with `demo: ok` and exit 0 only if both ran to their end and said
what was expected.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CTL = Path(sys.executable).with_name("syndicatectl")
DEADLINE_S = 170.0


@dataclass(frozen=True)
class Show:
    """One job of the demo: what to run, and what its client must find."""

    name: str
    machines: int
    expected: str  # the outcome: "pass" or "fail"
    because: tuple[
        str, ...
    ]  # of these metrics at least one is above 0 where it fails, all are 0 where it passes


SHOWS = (
    Show("redis", 2, "fail", ("stale_reads", "lost_writes")),
    Show("raft-kv", 5, "pass", ("stale_reads", "lost_writes")),
)


def free_port() -> int:
    """A port that nobody has, at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """A cluster of its own in a temporary directory, and what runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self.followers: list[subprocess.Popen[str]] = []

    def ctl(self, *words: str) -> list[str]:
        """The command line of one syndicatectl call."""
        return [str(CTL), *words]

    def up(self) -> None:
        """Ten slots on free ports."""
        ports = ("--port", str(free_port()), "--volunteer-port", str(free_port()))
        line = self.ctl("up", "--slots", "10", "--dir", str(self.folder / "c"), *ports)
        # Out of Ctrl-C's reach: what is half up cannot be told from what is not there, so it comes up first.
        starting = subprocess.Popen(line, env=self.environment, start_new_session=True)
        try:
            status = starting.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            starting.wait()
            raise
        if status != 0:
            raise subprocess.CalledProcessError(status, line)

    def down(self) -> bool:
        """Leaves the machine as it was found; True where that went well."""
        for follower in self.followers:
            if follower.poll() is None:
                follower.kill()
            follower.wait()
        line = self.ctl("down", "--dir", str(self.folder / "c"))
        return subprocess.run(line, check=False, env=self.environment).returncode == 0

    def submit(self, show: Show) -> int:
        """Queues a job and returns its id."""
        words = (
            "submit",
            str(HERE / show.name),
            "-n",
            str(show.machines),
            "--client",
            str(HERE / show.name / "client"),
        )
        line = self.ctl(*words, "--name", show.name, "--time-limit", "150", "--json")
        answer = subprocess.run(line, check=True, env=self.environment, stdout=subprocess.PIPE, text=True)
        return int(json.loads(answer.stdout)["job_id"])

    def follow(self, show: Show, job: int) -> threading.Thread:
        """Prints what happens in a job, each line with the job's name before it, until the job has ended."""
        line = self.ctl("follow", str(job))
        follower = subprocess.Popen(line, env=self.environment, stdout=subprocess.PIPE, text=True)
        self.followers.append(follower)

        def copy() -> None:
            assert follower.stdout is not None
            for text in follower.stdout:
                print(f"{show.name:<8} {text}", end="", flush=True)

        thread = threading.Thread(target=copy)
        thread.start()
        return thread

    def verdict(self, show: Show, job: int) -> bool:
        """Prints a job's time line and result; True where it is the expected one."""
        subprocess.run(self.ctl("show", str(job)), check=False, env=self.environment)
        line = self.ctl("result", str(job), "--json")
        answer = subprocess.run(line, check=False, env=self.environment, stdout=subprocess.PIPE, text=True)
        result = json.loads(answer.stdout).get("result") or {}
        found = sum(float(result.get("metrics", {}).get(name, 0)) for name in show.because)
        right = result.get("outcome") == show.expected and (found > 0) == (show.expected == "fail")
        named = ", ".join(f"{name} {result.get('metrics', {}).get(name, 0):g}" for name in show.because)
        fits = "yes" if right else "NO"
        print(f"{show.name}: {result.get('outcome')} ({named}); expected {show.expected}: {fits}\n")
        return right


def run(demo: Demo) -> bool:
    """Both jobs from submission to verdict; True where both said what was expected."""
    demo.up()
    with ThreadPoolExecutor(len(SHOWS)) as submitting:
        jobs = list(zip(SHOWS, submitting.map(demo.submit, SHOWS), strict=True))
    threads = [demo.follow(show, job) for show, job in jobs]
    for thread in threads:
        thread.join(DEADLINE_S)
        if thread.is_alive():
            print(f"error: not ended within {DEADLINE_S:g} s", file=sys.stderr)
            return False
    verdicts = [
        demo.verdict(show, job) for show, job in jobs
    ]  # both are shown, also where the first is wrong
    return all(verdicts)


def main() -> int:
    """Exit status 0 for `demo: ok`, 1 for anything else, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="syndicate-demo-") as folder:
        demo, status = Demo(Path(folder)), 1
        os.chmod(folder, 0o755)  # the daemons run as a user of their own
        try:
            status = 0 if run(demo) else 1
        except KeyboardInterrupt:
            print("\ninterrupted: taking the cluster down", file=sys.stderr)
            status = 130
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            # A second Ctrl-C must not leave half a cluster behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if not demo.down():
                status = status or 1
    print("demo: ok" if status == 0 else "demo: not ok")
    return status


if __name__ == "__main__":
    sys.exit(main())
