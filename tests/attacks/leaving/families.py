"""Sockets of every family but the common ones: to the hypervisor, the wire, crypto and the firewall."""

import ctypes
import errno
import socket

from attacker import attempt, got_it, note, syscall

SOCKET, SOCKETPAIR = (41, 198), (53, 199)
UNIX, IPV4, IPV6, NETLINK, VSOCK = 1, 2, 10, 16, 40
KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)


def tried(what, *arguments):
    """Claim a socket that was made."""
    result = attempt(what, syscall, *arguments)
    if result is not None:
        got_it(what)
    return result


known = {UNIX, IPV4, IPV6, NETLINK}
for family in (number for number in range(64) if number not in known):
    for kind in KINDS:
        try:
            syscall(SOCKET, family, kind, 0)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EPERM):
                note(f"family {family} answers {errno.errorcode[error.errno]}")
        else:
            got_it(f"a socket of family {family}")
for protocol in range(1, 32):  # 0 are routes and interfaces, which the C library asks for
    tried(f"netlink {protocol}", SOCKET, NETLINK, socket.SOCK_RAW, protocol)
for family in (IPV4, IPV6):
    for protocol in (0, 1, 6, 17, 58, 255):
        tried(f"raw {family} {protocol}", SOCKET, family, socket.SOCK_RAW, protocol)
    for protocol in (33, 132, 136, 262):
        tried(f"family {family}, protocol {protocol}", SOCKET, family, socket.SOCK_STREAM, protocol)
wide = ctypes.c_ulong(1 << 32 | VSOCK)  # with more bits than the kernel looks at
tried("vsock by a wide number", SOCKET, wide, socket.SOCK_STREAM, 0)
for family in (2, 16, 30, VSOCK):
    tried(f"a pair of {family}", SOCKETPAIR, family, socket.SOCK_STREAM, 0, (ctypes.c_int * 2)())
host = attempt("vsock", lambda: socket.socket(VSOCK, socket.SOCK_STREAM))
if host is not None:
    for where in ((2, 22), (1, 22), (0, 1)):
        attempt(f"vsock to {where}", host.connect, where)
