"""What a call raises that failed, and why the manager was not reached: gRPC's signs, in words for people."""

from __future__ import annotations

from syndicate.client_api._error_table import scheduler_error
from syndicate.client_api._errors import Failure, NotTrusted, SchedulerError, Unreachable
from syndicate.client_api._tls import time_apart


def error_of(failure: Failure, address: str, tried_for: float) -> SchedulerError:
    """What a call raises that failed so, after so many seconds of trying."""
    if is_distrust(failure):
        cause = _cause(failure)
        if "clock here" in cause and (apart := time_apart(address)):
            cause += f"; {apart}"
        return NotTrusted(f"the certificate of {address} is not trusted ({cause})", failure)
    if is_broken(failure) or (failure.code == "DEADLINE_EXCEEDED" and not failure.reason):
        return Unreachable(address, _cause(failure), tried_for, failure)
    return scheduler_error(failure)


def is_broken(failure: Failure) -> bool:
    """Whether the connection failed, and not the call."""
    # A connection that is reset in the middle of a stream comes as INTERNAL or UNKNOWN from some versions.
    if failure.code == "UNAVAILABLE":
        return True
    torn = "RST_STREAM" in failure.text or "Stream removed" in failure.text
    return failure.code in ("INTERNAL", "UNKNOWN") and torn and not failure.reason


def is_distrust(failure: Failure) -> bool:
    """Whether who is there showed a certificate that is not to be trusted."""
    # gRPC's own words: no status says that it was the certificate.
    signs = ("certificate_verify_failed", "handshake failed", "not in peer certificate", "hostname verif")
    return failure.code == "UNAVAILABLE" and any(sign in failure.text.lower() for sign in signs)


def _cause(failure: Failure) -> str:
    text = failure.text.lower()
    known = {
        "not in peer certificate": "it is not for this address",
        "hostname verif": "it is not for this address",
        "has expired": "it has expired, or the clock here is ahead",
        "not yet valid": "it has not begun, or the clock here is behind",
        "wrong_version_number": "no TLS is spoken there",
        "certificate_verify_failed": "it is of another authority",
        "handshake failed": "it is of another authority",
        "connection refused": "connection refused",
        "dns resolution failed": "no such host",
        "lookup failed": "no such host",
        "no route to host": "no route to host",
        "network is unreachable": "network unreachable",
        "timeout": "no answer",
        "fd shutdown": "no answer",
        "deadline": "no answer",
        "socket closed": "connection lost",
        "connection reset": "connection lost",
        "stream ended": "connection lost",
        "rst_stream": "connection lost",
    }
    found = next((cause for sign, cause in known.items() if sign in text), None)
    return found or (failure.text.splitlines()[0] if failure.text else failure.code.lower())
