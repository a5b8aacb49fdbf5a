"""What all tests share."""

from __future__ import annotations

import signal

pytest_plugins = ["tests.support.no_skips"]

# Started in the background by a script, Ctrl-C is ignored here and in every command that a test starts: tests
# of Ctrl-C need it as a terminal has it.
signal.signal(signal.SIGINT, signal.default_int_handler)
