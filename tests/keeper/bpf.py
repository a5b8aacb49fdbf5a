"""The kernel's part of a seccomp filter, for tests: runs a program on the data of one system call.

Classic BPF as seccomp(2) has it: 32-bit words of struct seccomp_data, an accumulator, forward jumps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _RETURN, _AND = 0x20, 0x06, 0x54
_JUMP, _EQUAL, _GREATER, _GREATER_OR_EQUAL, _ANY_BIT = 0x05, 0x15, 0x25, 0x35, 0x45


@dataclass(frozen=True)
class Program:
    """A filter as the kernel takes it."""

    instructions: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def parse(cls, data: bytes) -> Program:
        return cls(tuple(_INSTRUCTION.iter_unpack(data)))

    def run(self, architecture: int, number: int, *arguments: int) -> int:
        """What it returns; arguments that are not given are 0, and each is taken as 64 bits."""
        whole = [each & (1 << 64) - 1 for each in (*arguments, *(0,) * (6 - len(arguments)))]
        words = struct.unpack("=16I", struct.pack("=iIQ6Q", number, architecture, 0, *whole))
        accumulator = at = 0
        while True:
            code, if_true, if_false, constant = self.instructions[at]
            at += 1
            if code == _RETURN:
                return constant
            if code == _LOAD:
                accumulator = words[constant // 4]
            elif code == _AND:
                accumulator &= constant
            elif code == _JUMP:
                at += constant
            else:
                at += if_true if _holds(code, accumulator, constant) else if_false


def _holds(code: int, accumulator: int, constant: int) -> bool:
    if code == _EQUAL:
        return accumulator == constant
    if code == _GREATER:
        return accumulator > constant
    if code == _GREATER_OR_EQUAL:
        return accumulator >= constant
    if code == _ANY_BIT:
        return bool(accumulator & constant)
    raise AssertionError(f"an instruction that no filter of ours has: {code:#x}")
