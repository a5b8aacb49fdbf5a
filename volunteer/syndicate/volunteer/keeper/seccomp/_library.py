"""libseccomp through ctypes: the few functions that compile a list of rules into a BPF program.

The library is libseccomp.so.2 of Debian's libseccomp2, which apt itself needs; 2.5 or newer, for its binary
trees. See seccomp_init(3), seccomp_rule_add(3), seccomp_attr_set(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ._policy import BAD_ARCHITECTURE, MACHINES, OTHERWISE, Machine, Rule

# enum scmp_filter_attr
_ACTION_OF_BAD_ARCHITECTURE = 2
_OPTIMIZE = 8
_BINARY_TREE = 2


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Library:
    """libseccomp, loaded."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL("libseccomp.so.2")
        except OSError:
            lacking = "libseccomp is not installed: apt-get install libseccomp2"
            raise OSError(errno.ENOENT, lacking) from None
        handle, word = ctypes.c_void_p, ctypes.c_uint32
        library.seccomp_init.restype = handle
        library.seccomp_init.argtypes = [word]
        library.seccomp_release.restype = None
        library.seccomp_release.argtypes = [handle]
        library.seccomp_arch_native.restype = word
        library.seccomp_arch_add.argtypes = library.seccomp_arch_remove.argtypes = [handle, word]
        library.seccomp_attr_set.argtypes = [handle, ctypes.c_int, word]
        library.seccomp_merge.argtypes = [handle, handle]
        library.seccomp_export_bpf.argtypes = [handle, ctypes.c_int]
        library.seccomp_syscall_resolve_num_arch.restype = handle
        library.seccomp_syscall_resolve_num_arch.argtypes = [word, ctypes.c_int]
        library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
        library.seccomp_rule_add_exact_array.argtypes = [
            *(handle, word, ctypes.c_int, ctypes.c_uint),
            ctypes.POINTER(_Comparison),
        ]
        self._library = library
        self._free = ctypes.CDLL(None).free
        self._free.restype, self._free.argtypes = None, [handle]

    def calls(self, machine: str, newest: int) -> list[str]:
        """The system calls that it knows for this machine, by number up to this one."""
        architecture, found = MACHINES[machine].architecture, []
        for number in range(newest + 1):
            text = self._library.seccomp_syscall_resolve_num_arch(architecture, number)
            if text:
                found.append(ctypes.string_at(text).decode())
                self._free(text)
        return found

    def export(self, machine: str, rules: Iterable[Rule], file: int) -> None:
        """Compile the rules and write the program to a descriptor; raises OSError."""
        kind = MACHINES[machine]
        with self._context(kind.architecture) as context:
            for rule in rules:
                self._add(context, rule)
            self._close_siblings(context, kind)
            _expect(self._library.seccomp_export_bpf(context, file), "cannot write the program")

    def _close_siblings(self, context: int, kind: Machine) -> None:
        """Calls of these enter by the same door: they are not there, and asking kills nobody."""
        for sibling in kind.siblings:
            other = self._new(sibling)
            merged = self._library.seccomp_merge(context, other)  # which owns `other` from here on
            if merged != 0:
                self._library.seccomp_release(other)
            _expect(merged, "cannot close an architecture")

    @contextmanager
    def _context(self, architecture: int) -> Iterator[int]:
        context = self._new(architecture)
        try:
            yield context
        finally:
            self._library.seccomp_release(context)

    def _new(self, architecture: int) -> int:
        context = self._library.seccomp_init(OTHERWISE)
        if not context:
            raise OSError(errno.ENOMEM, "libseccomp cannot begin a filter")
        try:
            native = self._library.seccomp_arch_native()
            if architecture != native:
                _expect(self._library.seccomp_arch_remove(context, native), "cannot leave the own machine")
                _expect(self._library.seccomp_arch_add(context, architecture), "cannot take the machine")
            for name, value in ((_ACTION_OF_BAD_ARCHITECTURE, BAD_ARCHITECTURE), (_OPTIMIZE, _BINARY_TREE)):
                _expect(
                    self._library.seccomp_attr_set(context, name, value), "2.5 or newer is needed: settings"
                )
        except OSError:
            self._library.seccomp_release(context)
            raise
        return int(context)

    def _add(self, context: int, rule: Rule) -> None:
        tests = [_Comparison(each.argument, each.operation, each.first, each.second) for each in rule.tests]
        # The native machine's number, or a negative stand-in where it has no such call; both are translated.
        number = self._library.seccomp_syscall_resolve_name(rule.name.encode())
        array: Any = (_Comparison * len(tests))(*tests)
        result = self._library.seccomp_rule_add_exact_array(context, rule.action, number, len(tests), array)
        _expect(result, f"cannot add a rule for {rule.name}")


def _expect(result: int, what: str) -> None:
    """Functions of the library answer 0 or a negative errno."""
    if result != 0:
        raise OSError(-result, f"libseccomp: {what}: {os.strerror(-result)}")
