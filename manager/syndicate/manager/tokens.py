"""The token files of a manager: made at its first start, for their owner's eyes only.

`admin.token` opens the users' door as the user `admin`; `volunteer.token` opens the volunteers' door and no
other. Who removes one gets a new one at the next start, and the old one means nothing any more.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import structlog

from .core.model import Stamp, TokenScope
from .core.records import TokenRecord
from .core.users import FIRST_ADMIN, FIRST_TOKEN, digest_of, parts_of, token_text

_SECRET_BYTES: Final = 32
_VOLUNTEER: Final = "volunteer"

_log = structlog.get_logger()


def first_token(state_dir: Path, now: Stamp) -> TokenRecord:
    """The token of the first admin, without its secret. Raises OSError."""
    secret = parts_of(_token(state_dir / "admin.token", FIRST_TOKEN))[1]
    note = "made at the first start"
    return TokenRecord(FIRST_TOKEN, FIRST_ADMIN, note, TokenScope.ALL, digest_of(secret), now)


def volunteers_token(state_dir: Path) -> str:
    """What volunteers show. Raises OSError."""
    return _token(state_dir / "volunteer.token", _VOLUNTEER)


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file so that whoever sees it sees all of it. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _token(path: Path, token_id: str) -> str:
    if path.exists():
        text = path.read_text().strip()
        if not text:
            raise OSError(f"{path} is empty: remove it, and the next start makes a new token")
        if parts_of(text)[0] == token_id:
            return text
        _log.warning("token.replaced", path=str(path), detail="it had the form of an older version")
    text = token_text(token_id, secrets.token_hex(_SECRET_BYTES))
    write_whole(path, f"{text}\n", 0o600)
    _log.info("token.made", path=str(path))
    return text
