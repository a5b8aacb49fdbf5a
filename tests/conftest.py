"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

pytest_plugins = ["tests.support.no_skips", "tests.support.signals_kept"]

# A busy machine may stand still in the midst of an example, which a deadline for each would take for a fault.
settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")

# Started in the background by a script, or by nohup, Ctrl-C or the end of the terminal is ignored here and in
# every command that a test starts: tests of them need them as a terminal has them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
