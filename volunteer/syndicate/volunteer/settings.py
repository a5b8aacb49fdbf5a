"""What the operator decides: flags over environment over a TOML file over defaults.

The environment's names are `SYNDICATE_VOLUNTEER_…`; managers are `HOST:PORT,HOST:PORT` or a JSON list there.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection
from dataclasses import fields
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from . import whereabouts
from .settled import DEFAULT_KEEPER, DEFAULT_RUN_DIR, BadSettings, Settled, check_near, check_target
from .toml_lines import place, wrong

_LONGEST_SOCKET = "slots/99999/chaos.sock"
_MAX_SOCKET_PATH = 107  # sun_path, less its closing NUL


def _own_name() -> str:
    """The host's name as a volunteer id."""
    name = socket.gethostname().split(".")[0].lower()
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:63] or "node"


class _ManagerOf(PydanticBaseSettingsSource):
    """The manager's address alone of another source: what the machine's file says of it stands first."""

    def __init__(self, settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not called: `__call__` answers for all."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in self._source().items() if name == "manager"}


class _Whereabouts(PydanticBaseSettingsSource):
    """The manager's address from the kernel's command line, looked at only where nothing else tells it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not called: `__call__` answers for all."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        if self.current_state.get("manager"):
            return {}
        found = whereabouts.from_kernel()
        return {"manager": found} if found else {}


class Settings(BaseSettings):
    """All settings. Durations are in seconds, sizes in bytes. Build with `load`."""

    model_config = SettingsConfigDict(env_prefix="SYNDICATE_VOLUNTEER_", frozen=True, extra="forbid")

    manager: Annotated[tuple[str, ...], NoDecode] = Field((), min_length=1, validate_default=False)
    """HOST:PORT each; empty where DNS is to be asked."""
    token_file: Path | None = None
    tls_dir: Path | None = None
    insecure: bool = False
    join: str = ""
    join_token_file: Path | None = None
    ca_fingerprint: str = Field("", pattern=r"^(sha256:)?([0-9A-Fa-f]{2}:?){32}$|^$")
    state_dir: Path
    keeper: Path = DEFAULT_KEEPER
    run_dir: Path = DEFAULT_RUN_DIR
    id: str = Field(default_factory=_own_name, pattern=r"^[a-z0-9-]{1,63}$")
    log_format: Literal["auto", "json", "console"] = "auto"
    allow_root: bool = False
    metrics_listen: str = ""

    host_address: str = ""
    prefix: str = ""
    reach_domain: str = Field("", pattern=r"^[a-z0-9-]{0,63}$")

    cache_bytes: int = Field(2 << 30, gt=0)
    fetch_timeout_s: float = Field(45.0, gt=0)
    push_deadline_s: float = Field(10.0, gt=0)
    backoff_first_s: float = Field(0.2, gt=0)
    backoff_most_s: float = Field(10.0, gt=0)
    abandon_after_s: float = Field(60.0, ge=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file; for the manager's address the file first, and last what finds it."""
        file = TomlConfigSettingsSource(settings_cls)
        return init_settings, _ManagerOf(settings_cls, file), env_settings, file, _Whereabouts(settings_cls)

    @field_validator("manager", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """The environment's text; `[::1]:7001` is an address, and no JSON."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return [part.strip() for part in value.split(",")]

    @field_validator("manager")
    @classmethod
    def _managers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for target in value:
            check_target(target)
        if len(set(value)) != len(value):
            raise ValueError("a manager is named twice")
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _metrics_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if value and not (host and colon and port.isascii() and port.isdecimal() and int(port) <= 65_535):
            raise ValueError(f"{value!r} is not HOST:PORT")
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if value:
            IPv4Network(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        longest = str(self.run_dir / _LONGEST_SOCKET)
        if len(longest.encode()) > _MAX_SOCKET_PATH:
            raise ValueError(f"run_dir is too long for a socket in it: {self.run_dir}")
        return self

    @model_validator(mode="after")
    def _transport(self) -> Self:
        if self.insecure:
            check_near(self.manager)
            if self.token_file is None:
                raise ValueError("insecure needs token_file, the manager's STATE_DIR/volunteer.token")
        elif self.token_file is not None:
            raise ValueError("token_file is for insecure; else a certificate says who this is (tls_dir)")
        if self.join:
            check_target(self.join)
            if self.join_token_file is None or not self.ca_fingerprint:
                raise ValueError(
                    "join needs join_token_file and ca_fingerprint; `join-token create` tells both"
                )
        elif self.join_token_file is not None and not self.ca_fingerprint:
            raise ValueError("join_token_file needs ca_fingerprint; `join-token create` tells both")
        return self

    def settled(self) -> Settled:
        """As a plain value."""
        return Settled(**{field.name: getattr(self, field.name) for field in fields(Settled)})


def load(flags: dict[str, Any], file: Path | None) -> Settled:
    """The settings from all sources; flags that are None were not given. Raises BadSettings."""

    class FromFile(Settings):
        """Settings, with the file among the sources."""

        model_config = SettingsConfigDict(toml_file=file)

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        if file is not None and not file.is_file():
            raise BadSettings(f"there is no configuration file {file}")
        return FromFile(**given).settled()
    except OSError as error:  # as where the file, or a folder above it, is closed to this user
        why = (error.strerror or str(error)).lower()
        raise BadSettings(f"{file} cannot be read ({why})") from None
    except ValidationError as error:
        lines = [_line(one, given, file) for one in error.errors(include_url=False)]
        raise BadSettings("\n".join(lines)) from None
    except ValueError as error:  # tomllib's
        raise BadSettings(f"{file}: {error}") from None


def _line(error: Any, flags: Collection[str], file: Path | None) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "settings"
    what = wrong(error, Settings.model_fields, "SYNDICATE_VOLUNTEER_")
    told = f"{name}: {what}"
    if file is None or not error["loc"]:
        return told
    first = str(error["loc"][0])
    # The manager's address is taken from the file before the environment, all others after it.
    by_environment = first != "manager" and f"SYNDICATE_VOLUNTEER_{first.upper()}" in map(
        str.upper, os.environ
    )
    return told if first in flags or by_environment else place(file, error["loc"]) + told
