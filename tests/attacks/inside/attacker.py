"""What every attacking script may import: what it would love to know, and a hand with system calls."""

import ctypes
import errno
import json
import os
import platform
import sys

# Everything about the cluster and the bystander that the host knows: an attacker who has guessed all of it.
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "facts.json")) as _file:
    FACTS = json.load(_file)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_NUMBERS = {"x86_64": 0, "aarch64": 1}


def got_it(what):
    """Claim a success; the harness believes it only where an attack's `got` says so."""
    print(f"ATTACK: got it: {what}", flush=True)


def note(what):
    """Tell how a try went, for those who read a failing test."""
    print(f"note: {what}", flush=True)


def attempt(what, call, *arguments):
    """Try something; its result, or None after an OSError, which is noted."""
    try:
        return call(*arguments)
    except OSError as error:
        note(f"{what}: {errno.errorcode.get(error.errno, error.errno)}")
        return None


def syscall(numbers, *arguments):
    """A system call by its number on (x86_64, aarch64): its result. Raises OSError."""
    number = numbers[_NUMBERS[platform.machine()]] if isinstance(numbers, tuple) else numbers
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def write_bait(path, what=b"written by an attack\n"):
    """Write to a path of the host's where the harness looks afterwards; whether the write went through."""
    try:
        with open(path, "wb") as file:
            file.write(what)
    except OSError as error:
        note(f"{path}: {errno.errorcode.get(error.errno, error.errno)}")
        return False
    got_it(f"wrote {path}")
    return True


def end(status=0):
    """Leave at once, whatever threads there are."""
    sys.stdout.flush()
    os._exit(status)
