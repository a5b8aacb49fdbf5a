"""In bubblewrap's place where its pivot_root is to be gone: the same root, made by chroot alone.

It understands of bubblewrap's options what the keeper gives, and no filter of system calls.
"""

import ctypes
import os
import signal
import sys

_NEW_NAMESPACES = 0x2_0000 | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x2000_0000
_BIND, _REMOUNT, _RDONLY, _REC, _PRIVATE, _NOSUID = 4096, 32, 1, 16384, 1 << 18, 2
_PDEATHSIG = 1
_PAIRS = {"--bind", "--ro-bind", "--dev-bind", "--setenv"}
_SINGLES = {"--proc", "--chdir", "--seccomp"}

_libc = ctypes.CDLL(None, use_errno=True)


def _called(what, result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def _mount(source, target, kind=None, flags=0):
    names = source.encode(), target.encode(), kind and kind.encode()
    _called(f"{source} on {target}", _libc.mount(*names, ctypes.c_ulong(flags), None))


def _options(descriptor):
    words = os.read(descriptor, 1 << 16).decode().split("\0")[:-1]
    while words:
        name = words.pop(0)
        count = 2 if name in _PAIRS else 1 if name in _SINGLES else 0
        yield name, words[:count]
        del words[:count]


def _lay(root, options, environment):
    for name, values in options:
        match name, values:
            case (("--bind" | "--ro-bind" | "--dev-bind"), (source, target)):
                _mount(source, root + target, None, _BIND | _REC)
                if name == "--ro-bind":
                    _mount("none", root + target, None, _BIND | _REMOUNT | _RDONLY | _NOSUID)
            case "--proc", (target,):
                _mount("proc", root + target, "proc")
            case "--setenv", (key, value):
                environment[key] = value


def main(arguments):
    """`--args FD -- COMMAND`: become the command in a root of its own; the status is the command's."""
    command = arguments[arguments.index("--") + 1 :]
    (_, (root, _)), *options = _options(int(arguments[1]))
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)
    _called("unshare", _libc.unshare(_NEW_NAMESPACES))
    _mount("none", "/", None, _REC | _PRIVATE)
    pid = os.fork()
    if pid:
        os.closerange(3, 64)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if status >= 0 else 128 - status
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)
    environment = {}
    _lay(root, options, environment)
    os.chroot(root)
    os.chdir("/")
    os.closerange(int(arguments[1]), 64)  # the options, and what comes after them
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
