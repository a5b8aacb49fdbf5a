"""Calls to large or dangerous parts of the kernel, with arguments that do no harm where they get there."""

import ctypes
import errno

from attacker import got_it, note, syscall

DENIED = (errno.EPERM, errno.ENOSYS, errno.EACCES)
MINUS, HERE = -1, -100
# By number on (x86_64, aarch64): what a kernel that is reached answers to these is another error, or none.
CALLS = {
    "bpf": ((321, 280), 0, None, 0),
    "perf_event_open": ((298, 241), None, 0, MINUS, MINUS, 0),
    "userfaultfd": ((323, 282), 1),
    "kexec_load": ((246, 104), 0, 0, None, 0),
    "kexec_file_load": ((320, 294), MINUS, MINUS, 0, None, 0),
    "init_module": ((175, 105), None, 0, b""),
    "finit_module": ((313, 273), MINUS, b"", 0),
    "delete_module": ((176, 106), b"syn-no-such-module", 0x800),
    "swapon": ((167, 224), b"/nowhere", 0),
    "swapoff": ((168, 225), b"/nowhere"),
    "acct": ((163, 89), b"/nowhere"),
    "reboot": ((169, 142), 0, 0, 0, None),
    "syslog": ((103, 116), 10, None, 0),
    "quotactl": ((179, 60), 0, b"/nowhere", 0, None),
    "settimeofday": ((164, 170), None, None),
    "clock_settime": ((227, 112), 0, None),
    "clock_adjtime": ((305, 266), 0, None),
    "adjtimex": ((159, 171), None),
    "sethostname": ((170, 161), b"master", ctypes.c_size_t(6)),
    "setdomainname": ((171, 162), b"", ctypes.c_size_t(0)),
    "fanotify_init": ((300, 262), 0, 0),
    "fanotify_mark": ((301, 263), MINUS, 0, 0, HERE, b"/"),
    "open_by_handle_at": ((304, 265), HERE, ctypes.create_string_buffer(16), 0),
    "kcmp": ((312, 272), 1, 1, 0, 0, 0),
    "pidfd_getfd": ((438, 438), MINUS, 0, 0),
    "memfd_secret": ((447, 447), 0),
    "lookup_dcookie": ((212, 18), 0, None, 0),
    "setns": ((308, 268), MINUS, 0),
    "lsm_set_self_attr": ((460, 460), 0, None, 0, 0),
    "keyctl": ((250, 219), 0, -3, 0),
    "set_mempolicy": ((238, 237), 0, None, ctypes.c_ulong(0)),
    "mbind": ((237, 235), None, ctypes.c_ulong(0), 0, None, ctypes.c_ulong(0), 0),
    "migrate_pages": ((256, 238), 0, ctypes.c_ulong(0), None, None),
    "iopl": ((172, 9999), 0),
    "ioperm": ((173, 9999), 0x80, 1, 0),
    "modify_ldt": ((154, 9999), 0, None, 0),
    "a call of the future": ((600, 600),),
}

for name, (number, *arguments) in CALLS.items():
    try:
        syscall(number, *arguments)
    except OSError as error:
        note(f"{name}: {errno.errorcode.get(error.errno, error.errno)}")
        if error.errno not in DENIED:
            got_it(f"{name} reached the kernel")
    else:
        got_it(f"{name} was done")
