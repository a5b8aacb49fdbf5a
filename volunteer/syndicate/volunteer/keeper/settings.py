"""The keeper's settings: flags, then environment (SYNDICATE_KEEPER_…), then a TOML file."""

from __future__ import annotations

import argparse
import errno
import os
import pwd
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    CliImplicitFlag,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ..toml_lines import place
from .config import Config

_MAX_SOCKET_PATH = 107  # sun_path, less its closing NUL
_LONGEST_SOCKET = "slots/99999/chaos.sock"


def _uid_of(value: object) -> object:
    """A name as its uid: an image knows the name before the machine has given it a uid."""
    if not isinstance(value, str) or value.isdecimal():
        return value
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError(f"this machine has no user {value}") from None


class KeeperSettings(BaseSettings):
    """What one keeper is to do; built once in `__main__`."""

    model_config = SettingsConfigDict(
        env_prefix="SYNDICATE_KEEPER_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_prog_name="syndicate-keeper",
    )

    instance: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]{1,6}$", description="name of this volunteer on its host: 1 to 6 of a-z, 0-9"
        ),
    ]
    run_dir: Annotated[Path, Field(description="folder for the sockets; only the volunteer may enter it")]
    state_dir: Annotated[Path, Field(description="folder for disks and logs of tasks, and the skeleton")]
    cache_dir: Annotated[
        Path | None,
        Field(description="where the volunteer keeps sources, by digest; default STATE_DIR/cache"),
    ] = None
    slots: Annotated[int, Field(ge=1, le=1000, description="how many tasks at a time")] = 1
    volunteer_uid: Annotated[
        int,
        Field(ge=0, lt=1 << 31, description="who may connect, besides root; a user's name will do"),
        BeforeValidator(_uid_of),
    ]
    uid_base: Annotated[
        int | None,
        Field(
            ge=1000,
            lt=1 << 31,
            description="slot n runs as this uid plus n; default the first free thousand from 200000 on",
        ),
    ] = None
    root_fs: Annotated[Path, Field(description="root file system whose /usr tasks see")] = Path("/")
    network: Annotated[
        Literal["fabric", "host"], Field(description="own networks for slots, or the host's for one slot")
    ] = "fabric"
    address: Annotated[str, Field(description="network=host: the host's address")] = ""
    uplink: Annotated[str, Field(description="network=host: the device that must have the address")] = ""
    never_cut: Annotated[
        tuple[str, ...], Field(description="network=host: addresses of the manager, which no fault may cut")
    ] = ()
    delegated: Annotated[
        CliImplicitFlag[bool],
        Field(description="make cgroups in its own, which a service manager has delegated to it"),
    ] = False
    after_job: Annotated[
        Literal["keep", "reboot"],
        Field(description="reboot: boot the machine again, by systemd, once a job has left it"),
    ] = "keep"
    pack_bytes: Annotated[
        int, Field(ge=1 << 16, description="largest disk of a task that is handed over, packed")
    ] = 64 << 20
    pack_s: Annotated[
        float, Field(gt=0, le=25, description="seconds that packing and handing over a disk may take")
    ] = 20.0
    unsafe: Annotated[
        CliImplicitFlag[bool], Field(description="start although isolation of tasks cannot be had")
    ] = False
    config: Annotated[Path | None, Field(description="TOML file with these settings")] = None

    @property
    def cache(self) -> Path:
        """Where sources are."""
        return self.cache_dir or self.state_dir / "cache"

    def settled(
        self,
        lacks: tuple[str, ...],
        unsafe: tuple[str, ...] = (),
        faults: tuple[str, ...] = (),
        cannot: tuple[tuple[str, str], ...] = (),
    ) -> Config:
        """As a plain value.

        `lacks` names what this machine has in part, `unsafe` what is done without; `faults` are those that it
        can do, `cannot` the others, each with the reason.
        """
        names = {field.name for field in fields(Config)} - {"lacks", "unsafe", "faults", "cannot"}
        own = {name: getattr(self, name) for name in names}
        return Config(lacks=lacks, unsafe=unsafe, faults=faults, cannot=cannot, **own)

    @model_validator(mode="after")
    def _fits(self) -> KeeperSettings:
        if self.network == "host" and (self.slots != 1 or not self.address):
            raise ValueError("network=host needs --address, and has one slot")
        for name in ("address", "uplink", "never_cut"):
            if getattr(self, name) and self.network != "host":
                raise ValueError(f"{name} is for network=host alone: set that too, or leave it out")
        longest = self.run_dir / _LONGEST_SOCKET
        if len(str(longest)) > _MAX_SOCKET_PATH:
            raise ValueError(f"run_dir is too long for a socket in it: {self.run_dir}")
        for folder in (self.run_dir, self.state_dir, self.root_fs, self.cache):
            if not folder.is_absolute() or any(char in str(folder) for char in ",:\\\n"):
                raise ValueError(f"{folder}: must be absolute, without comma, colon and backslash")
        for folder in (self.run_dir, self.state_dir):
            if len(folder.parts) < 3:
                raise ValueError(f"{folder}: must be a folder of the keeper's own, such as /run/syndicate")
        return self


def config_of(argv: Sequence[str]) -> Path | None:
    """The file that `--config` names."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    found: Path | None = early.parse_known_args(argv)[0].config
    return found


def stands_at(argv: Sequence[str], path: Sequence[object]) -> str:
    """`FILE:LINE: ` of a setting that the file gave, and neither a flag nor the environment."""
    file = config_of(argv)
    if file is None or not path:
        return ""
    name = str(path[0])
    flag = f"--{name.replace('_', '-')}"
    given = any(word == flag or word.startswith(f"{flag}=") for word in argv)
    by_environment = f"SYNDICATE_KEEPER_{name.upper()}" in map(str.upper, os.environ)
    return "" if given or by_environment else place(file, path)


def load(argv: Sequence[str]) -> KeeperSettings:
    """Settings from these flags, the environment and the file that they name.

    Raises pydantic.ValidationError for what does not fit, SystemExit after `--help` or unknown flags.
    """
    toml_file = config_of(argv)
    if toml_file is not None and not toml_file.is_file():
        raise FileNotFoundError(errno.ENOENT, "there is no such configuration file")

    class Loaded(KeeperSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            flags: CliSettingsSource[Loaded] = CliSettingsSource(settings_cls, cli_parse_args=list(argv))
            if toml_file is None:
                return flags, env_settings
            return flags, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=toml_file)

    return Loaded()  # type: ignore[call-arg]  # the required ones come from the sources above
