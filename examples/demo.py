"""Two distributed systems side by side on ten slots of this machine, broken while they run.

Each job's client records what it does and has its history judged. Redis replicates asynchronously: its
verdict must be false, and name a stale read. That of the Raft store must be true. Brings a cluster up,
submits both, shows what happens while it happens, writes a report of each, and takes the cluster down again,
also after Ctrl-C and when the terminal is closed. Ends with `demo: ok` and exit 0 only if both ran to their
end with the verdict that was expected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CTL = Path(sys.executable).with_name("syndicatectl")
DEADLINE_S = 600.0  # a minute is the rule; a slow or busy machine takes several
TIME_LIMIT_S = 540  # of a job: it ends before the demo gives up, and its report is written
WHO = 9
"""Columns of a job's name before each of its lines."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVER_LINE = re.compile(r"\| \d+:[CMSX] \d\d ")
"""Redis's own log, warnings about the machine most of it: its client says what happens."""


@dataclass(frozen=True)
class Show:
    """One job of the demo: what to run, and what its client must find."""

    name: str
    machines: int
    outcome: str  # as the result has it: "pass" or "fail"
    verdict: (
        str  # how its text must begin: the checkers' answer, and their reason where it is always the same
    )


SHOWS = (
    Show("redis", 2, "fail", 'false: linearizable: get stale returned "old" '),
    Show("raft-kv", 5, "pass", "true: "),
)


def say(text: str) -> None:
    """A line on standard error, if somebody still reads it."""
    with contextlib.suppress(OSError):  # the terminal was closed
        print(text, file=sys.stderr, flush=True)


def ignore_signals() -> None:
    """What takes the cluster down is not to be interrupted; commands that are started from now on neither."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def shown(show: Show, job: int, text: str) -> str:
    """A line of a job as the demo prints it; empty for one that it leaves out."""
    if SERVER_LINE.search(text):
        return ""
    # What such advice names is gone when the demo has ended.
    return f"{show.name:<{WHO}}{text.replace(f'syndicatectl show {job}', '')}".rstrip()


def judged(show: Show, result: dict[str, Any]) -> tuple[bool, str]:
    """Whether a job's result is what was expected, and a line that says so with the verdict."""
    verdict = (str(result.get("text", "")).splitlines() or ["no verdict"])[0]
    right = result.get("outcome") == show.outcome and verdict.startswith(show.verdict)
    fits = "as expected" if right else f"not as expected, which is {show.verdict.strip()!r}"
    return right, f"{show.name:<{WHO}}{fits}: {verdict}"


def lines_of(reader: int) -> Iterator[str]:
    """What a command writes, until it ends. Closes ``reader``, a pipe's end or a terminal's."""
    with open(reader, encoding="utf-8", errors="replace") as stream:
        while True:
            try:
                text = stream.readline()
            except OSError:  # the end, as a terminal says it
                return
            if not text:
                return
            yield text.rstrip()


class Demo:
    """A cluster of its own in a temporary directory, and what runs on it. `reports` is there afterwards."""

    def __init__(self, folder: Path, reports: Path) -> None:
        self.folder = folder
        self.reports = reports
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self.followers: list[subprocess.Popen[str]] = []

    def ctl(self, *words: str) -> list[str]:
        """The command line of one syndicatectl call."""
        return [str(CTL), *words]

    def up(self) -> None:
        """Ten slots on free ports."""
        line = self.ctl("up", "--slots", "10", "--dir", str(self.folder / "c"), "--port", "0")
        # Out of Ctrl-C's reach: what is half up cannot be told from what is not there, so it comes up first.
        starting = subprocess.Popen(
            line, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            status = starting.wait()
        except KeyboardInterrupt:
            ignore_signals()
            say("\ninterrupted: waiting until it is up, to take it down")
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
        line = self.ctl(*words, "--name", show.name, "--time-limit", str(TIME_LIMIT_S), "--json")
        answer = subprocess.run(line, check=True, env=self.environment, stdout=subprocess.PIPE, text=True)
        return int(json.loads(answer.stdout)["job_id"])

    def follow(self, show: Show, job: int) -> threading.Thread:
        """Prints what happens in a job, each line with the job's name before it, until the job has ended."""
        width = str(shutil.get_terminal_size().columns - WHO)
        reader, writer = os.openpty() if sys.stdout.isatty() else os.pipe()
        # Out of Ctrl-C's reach too: that the job goes on is not so, the cluster is taken down.
        follower = subprocess.Popen(
            self.ctl("follow", str(job)),
            env={**self.environment, "COLUMNS": width},
            stdout=writer,
            start_new_session=True,
        )
        os.close(writer)
        self.followers.append(follower)

        def copy() -> None:
            for text in lines_of(reader):
                line = shown(show, job, text)
                if line:
                    print(line, flush=True)

        thread = threading.Thread(target=copy)
        thread.start()
        return thread

    def report(self, show: Show, job: int) -> bool:
        """Writes a job's report, one page that needs no network, and prints where; True where it did."""
        page = self.reports / f"{show.name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        line = self.ctl("report", str(job), "-o", str(page))
        done = subprocess.run(line, check=False, env=self.environment, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            say(done.stderr.rstrip())
            return False
        print(f"{show.name:<{WHO}}report: {page}", flush=True)
        return True

    def verdict(self, show: Show, job: int) -> bool:
        """Prints what became of a job, in a line; True where it is what was expected."""
        line = self.ctl("result", str(job), "--json")
        answer = subprocess.run(line, check=False, env=self.environment, stdout=subprocess.PIPE, text=True)
        right, told = judged(show, json.loads(answer.stdout).get("result") or {})
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            told = textwrap.fill(told, columns, subsequent_indent=" " * WHO, break_on_hyphens=False)
        print(told)
        return right


def run(demo: Demo) -> bool:
    """Both jobs from submission to verdict; True where both said what was expected."""
    print("Redis must come out false, by a stale read; Raft must come out true.", flush=True)
    demo.up()
    with ThreadPoolExecutor(len(SHOWS)) as submitting:
        jobs = list(zip(SHOWS, submitting.map(demo.submit, SHOWS), strict=True))
    threads = [demo.follow(show, job) for show, job in jobs]
    for thread in threads:
        thread.join(DEADLINE_S)
        if thread.is_alive():
            print(f"error: not ended within {DEADLINE_S:g} s", file=sys.stderr)
            return False
    for _, job in jobs:
        subprocess.run(demo.ctl("show", str(job)), check=False, env=demo.environment)
        print(flush=True)
    # All of them, also where the first is wrong.
    reports = [demo.report(show, job) for show, job in jobs]
    verdicts = [demo.verdict(show, job) for show, job in jobs]
    return all(reports) and all(verdicts)


def main(arguments: Sequence[str] = ()) -> int:
    """Exit status 0 for `demo: ok`, 1 for anything else, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reports", type=Path, default=Path("demo-reports"), help="the folder that the reports go to"
    )
    reports: Path = parser.parse_args(arguments).reports.absolute()
    if os.geteuid() != 0:
        say("error: the demo needs root: sudo make demo")
        return 1
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="syndicate-demo-") as folder:
        demo, status = Demo(Path(folder), reports), 1
        os.chmod(folder, 0o755)  # the daemons run as a user of their own
        try:
            status = 0 if run(demo) else 1
        except KeyboardInterrupt:
            say("\ninterrupted: taking the cluster down")
            status = 130
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            ignore_signals()  # a second Ctrl-C must not leave half a cluster behind
            if not demo.down():
                status = status or 1
    print("demo: ok" if status == 0 else "demo: not ok")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
