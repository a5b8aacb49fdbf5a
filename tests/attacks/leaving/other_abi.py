"""Calls of another machine's kind, whose numbers a filter may not know: i386's by int 0x80, x32's."""

import ctypes
import mmap
import os
import signal

from attacker import attempt, got_it, note, syscall

NEW_USER = 0x1000_0000
I386 = {
    "unshare": (310, NEW_USER),
    "keyctl": (288, 0),
    "mount": (21, 0),
    "chroot": (61, 0),
    "getpid": (20, 0),
}
X32 = {"unshare": (272, NEW_USER), "keyctl": (250, 0), "chroot": (161, 0), "getpid": (39, 0)}
X32_BIT = 0x4000_0000


def int80(number, argument):
    """An i386 call: its result, below 0 an error."""
    code = b"\x53\xb8" + number.to_bytes(4, "little") + b"\xbb" + argument.to_bytes(4, "little")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code + b"\xcd\x80\x5b\xc3")  # int $0x80; pop %rbx; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


for name, (number, argument) in I386.items():
    pid = os.fork()
    if pid == 0:
        result = int80(number, argument)
        if result >= 0:
            got_it(f"i386's {name} gave {result}")
        else:
            got_it(f"i386's {name} reached the kernel: {os.strerror(-result)}")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    note(f"i386's {name}: {signal.Signals(-status).name if status < 0 else status}")
for name, (number, argument) in X32.items():
    if attempt(f"x32's {name}", syscall, X32_BIT | number, argument) is not None:
        got_it(f"x32's {name}")
