"""Histories: what clients did to the system under test, recorded, read, merged, and in others' formats."""

from syndicate.client_api.history._clock import DRIFT_PPM, ClockReading
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._jepsen import read_jepsen, write_jepsen
from syndicate.client_api.history._lines import Header
from syndicate.client_api.history._merge import Merged, UsedClock, merge
from syndicate.client_api.history._operation import Operation, Outcome
from syndicate.client_api.history._porcupine import read_porcupine, write_porcupine
from syndicate.client_api.history._read import Recorded, read
from syndicate.client_api.history._record import History, Invocation

__all__ = [
    "DRIFT_PPM",
    "ClockReading",
    "Header",
    "History",
    "HistoryError",
    "Invocation",
    "Merged",
    "Operation",
    "Outcome",
    "Recorded",
    "UsedClock",
    "merge",
    "read",
    "read_jepsen",
    "read_porcupine",
    "write_jepsen",
    "write_porcupine",
]
