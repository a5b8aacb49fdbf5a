"""What the serving keeper holds in memory, which is what it imports."""

from __future__ import annotations

import subprocess
import sys

_RARE = {"sqlite3", "unittest", "pyroute2.ndb", "pydantic", "structlog", "grpc", "cryptography"}


def said(program: str) -> str:
    """What a program of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_what_it_does_not_use_is_not_loaded() -> None:
    """All of pyroute2 would be 7 MB for as long as it serves."""
    program = f"import sys, syndicate.volunteer.keeper.serve; print(*{_RARE} & set(sys.modules))"
    assert said(program) == ""


def test_who_imports_the_package_has_it_whole() -> None:
    """Before or after the keeper's modules, which have the same messages."""
    of_keeper = "from syndicate.volunteer.keeper.network import _nft"
    of_package = "from pyroute2 import DiagSocket; from pyroute2.netlink.nfnetlink import nftsocket"
    for first, then in ((of_keeper, of_package), (of_package, of_keeper)):
        told = said(f"{first}; {then}; print(DiagSocket.__name__, _nft.nft is nftsocket)")
        assert told == "DiagSocket True"
