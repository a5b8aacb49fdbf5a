"""Checkers: what a history of operations says of the system that it was recorded from.

Each has ``check(operations, budget) -> Verdict``, in pure Python, within bounds of time and memory; the
answer is true, false or unknown. ``compose`` makes one of several.
"""

from syndicate.client_api.checkers._budget import Budget
from syndicate.client_api.checkers._checker import Checker, compose
from syndicate.client_api.checkers._elements import Counter, SetFull, TotalQueue, UniqueIds
from syndicate.client_api.checkers._errors import (
    BadHistory,
    BadOperation,
    OverlappingOperations,
    UnknownKind,
)
from syndicate.client_api.checkers._ledger import fault_windows
from syndicate.client_api.checkers._linearizable import Linearizable
from syndicate.client_api.checkers._list_append import ListAppend
from syndicate.client_api.checkers._registers import CasRegister, KeyValue, Register
from syndicate.client_api.checkers._verdict import Answer, Verdict
from syndicate.client_api.checkers._windows import AvailableAgain, FaultWindow, NotVacuous, vacuous
from syndicate.client_api.checkers.models import REFUSED, Model, Mutex, Queue

__all__ = [
    "REFUSED",
    "Answer",
    "AvailableAgain",
    "BadHistory",
    "BadOperation",
    "Budget",
    "CasRegister",
    "Checker",
    "Counter",
    "FaultWindow",
    "KeyValue",
    "Linearizable",
    "ListAppend",
    "Model",
    "Mutex",
    "NotVacuous",
    "OverlappingOperations",
    "Queue",
    "Register",
    "SetFull",
    "TotalQueue",
    "UniqueIds",
    "UnknownKind",
    "Verdict",
    "compose",
    "fault_windows",
    "vacuous",
]
