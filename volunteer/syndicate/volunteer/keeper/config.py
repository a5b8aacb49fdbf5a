"""What one keeper is to do, as a plain value: the serving process holds no settings library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Config:
    """Settled and checked settings; `settings.KeeperSettings` describes each."""

    instance: str
    run_dir: Path
    state_dir: Path
    cache: Path
    slots: int
    volunteer_uid: int
    uid_base: int | None
    root_fs: Path
    network: str
    address: str
    uplink: str
    never_cut: tuple[str, ...]
    delegated: bool
    after_job: str
    lacks: tuple[str, ...]  # names of requirements that this machine meets in part
    unsafe: tuple[str, ...]  # names of those that it does not meet, and the operator does without
    pack_bytes: int = 64 << 20
    pack_s: float = 20.0
    faults: tuple[str, ...] = ()  # those that it can do
    cannot: tuple[tuple[str, str], ...] = ()  # those that it cannot, each with the reason

    def encode(self) -> str:
        """As one argument for the serving process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decode(cls, text: str) -> Config:
        """What `encode` made."""
        values: dict[str, Any] = json.loads(text)
        for name in ("run_dir", "state_dir", "cache", "root_fs"):
            values[name] = Path(values[name])
        for name in ("never_cut", "lacks", "unsafe", "faults"):
            values[name] = tuple(values[name])
        values["cannot"] = tuple((fault, why) for fault, why in values["cannot"])
        return cls(**values)
