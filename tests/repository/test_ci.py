"""What lands is tested whole: `.ci/run`, bounds of time, no test skipped, no signal left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import ROOT
from tests.support.make import dry_run

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no kernel')\ndef test_it(): pass\n",
    "condition": "import pytest\n@pytest.mark.skipif(True, reason='no kernel')\ndef test_it(): pass\n",
    "call": "import pytest\ndef test_it(): pytest.skip('no kernel')\n",
    "fixture": (
        "import pytest\n@pytest.fixture\ndef kernel(): pytest.skip('no kernel')\ndef test_it(kernel): pass\n"
    ),
    "module": "import pytest\npytest.skip('no kernel', allow_module_level=True)\ndef test_it(): pass\n",
    "import": "import pytest\npytest.importorskip('no_kernel', reason='no kernel')\ndef test_it(): pass\n",
    "unittest": (
        "import unittest\nclass TestIt(unittest.TestCase):\n"
        "    @unittest.skip('no kernel')\n    def test_it(self): pass\n"
    ),
    "xfail": "import pytest\n@pytest.mark.xfail(reason='no kernel')\ndef test_it(): assert False\n",
    "xpass": "import pytest\n@pytest.mark.xfail(reason='no kernel')\ndef test_it(): pass\n",
    "not run": "import pytest\n@pytest.mark.xfail(run=False, reason='no kernel')\ndef test_it(): pass\n",
    "imperative": "import pytest\ndef test_it(): pytest.xfail('no kernel')\n",
}

LEFT = """\
import asyncio, signal
def test_asyncio(): asyncio.get_event_loop_policy().new_event_loop().add_signal_handler(signal.SIGINT, print)
def test_handler(): signal.signal(signal.SIGTERM, lambda *_: None)
def test_ignored(): signal.signal(signal.SIGHUP, signal.SIG_IGN)
def test_after():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
"""

PLUGINS = ("tests.support.no_skips", "tests.support.signals_kept")

SEEDED = "--randomly-seed=1 --hypothesis-seed=1"


def run_pytest(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests of a module as this project's tests are run, but with no configuration of theirs."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_sample.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    for plugin in PLUGINS:
        command += ["-p", plugin]
    command += ["-c", str(folder / "pytest.ini"), *words, str(folder / "test_sample.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS.keys())
def test_a_skip_of_any_kind_is_a_failure(tmp_path: Path, text: str) -> None:
    """Skipped or expected to fail, by mark, call, fixture or module: pytest fails and says why it was."""
    done = run_pytest(tmp_path, text)
    assert done.returncode in (1, 2), done.stdout  # 2: a module could not be collected
    last = done.stdout.splitlines()[-1]
    assert "1 failed" in last or "1 error" in last, done.stdout
    assert not any(word in last for word in ("passed", "skipped", "xfailed", "xpassed")), last
    assert "no kernel" in done.stdout and "is a failure here" in done.stdout


def test_a_test_that_passes_or_fails_is_told_as_it_is(tmp_path: Path) -> None:
    """The plugin touches nothing else."""
    done = run_pytest(tmp_path, "def test_a(): pass\ndef test_b(): assert 1 == 2\n")
    assert (
        done.returncode == 1 and "1 failed, 1 passed" in done.stdout and "a failure here" not in done.stdout
    )


def test_a_handler_of_a_signal_that_stays_behind_is_a_failure(tmp_path: Path) -> None:
    """Of the test that left it, and of none behind it: what was there before is put back."""
    done = run_pytest(tmp_path, LEFT, "-p", "no:randomly", "-W", "ignore")
    assert done.returncode == 1 and "4 passed, 3 errors" in done.stdout.splitlines()[-1], done.stdout
    assert done.stdout.count("handlers of signals stayed behind") >= 3


def test_these_very_tests_are_held_to_it(pytestconfig: pytest.Config) -> None:
    """The plugins are loaded for all of them."""
    assert all(pytestconfig.pluginmanager.has_plugin(plugin) for plugin in PLUGINS)


def test_a_session_past_its_time_fails(tmp_path: Path) -> None:
    """As `make test` bounds it: what is running is let end, the rest is not run, and the whole has failed."""
    text = "import time\ndef test_a(): time.sleep(0.3)\ndef test_b(): pass\n"
    done = run_pytest(tmp_path, text, "--session-timeout", "0.2", "-p", "no:randomly")
    assert done.returncode == 1 and "session-timeout" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("test", f'-m "not system" {SEEDED} --session-timeout 3600'),
        ("test-system", f"-m system {SEEDED} --timeout 600 --session-timeout 10800"),
        ("attacks", f"tests/attacks {SEEDED} --timeout 600 --session-timeout 3600"),
    ],
)
def test_make_bounds_the_time_of_the_tests(target: str, words: str) -> None:
    """An hour for the quick ones and the attacks alone, three for all clusters; in one order each time."""
    parts = ("setup", "system-packages", ".venv/.installed")
    done = dry_run(target, *(word for part in parts for word in ("-o", part)))
    assert done.stdout.splitlines()[-1] == f".venv/bin/python -m pytest -q {words}"


@pytest.mark.parametrize("status", [0, 2])
def test_ci_runs_all_of_it_and_ends_as_it_did(tmp_path: Path, status: int) -> None:
    """`make check test test-system` in the repository's folder, from wherever it is called."""
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$PWD: make $*"\nexit {status}\n')
    make.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(ROOT / ".ci/run")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{ROOT}: make check test test-system\n" and done.returncode == status
