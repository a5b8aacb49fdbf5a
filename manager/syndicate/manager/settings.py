"""What the operator decides: flags before environment (`SYNDICATE_MANAGER_…`) before file before defaults."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from .core import model
from .core.access import UserLimits
from .core.limits import BESIDE_DISK_BYTES, figure, shortfall
from .core.words import size
from .disks import DiskBounds
from .histories import Bounds
from .toml_lines import place, wrong

# What a volunteer may need to kill everything once its lease has run out.
_KILL_S = 2.0


class BadSettings(Exception):
    """The settings make no sense; the text is one line for each mistake."""


class Limits(BaseModel):
    """Bounds of each task; 0 means no bound for those that may be 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disk_bytes: int = Field(default=256 << 20, gt=0)
    disk_inodes: int = Field(default=100_000, gt=0)
    log_head_bytes: int = Field(default=8 << 20, ge=0)
    log_tail_bytes: int = Field(default=1 << 20, ge=0)
    memory_bytes: int = Field(default=512 << 20, ge=0)
    pids: int = Field(default=512, ge=0)
    cpu_millis: int = Field(default=0, ge=0)
    open_files: int = Field(default=4096, ge=0)
    file_bytes: int = Field(default=0, ge=0)


class MaxLimits(BaseModel):
    """The most that a job may ask for; 0 means no maximum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disk_bytes: int = Field(default=4 << 30, ge=0)
    disk_inodes: int = Field(default=1_000_000, ge=0)
    log_head_bytes: int = Field(default=32 << 20, ge=0)
    log_tail_bytes: int = Field(default=8 << 20, ge=0)
    memory_bytes: int = Field(default=8 << 30, ge=0)
    pids: int = Field(default=4096, ge=0)
    cpu_millis: int = Field(default=0, ge=0)
    open_files: int = Field(default=16_384, ge=0)
    file_bytes: int = Field(default=0, ge=0)


class Quota(BaseModel):
    """The most that a user or a team has at once; -1 for no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running_jobs: int = Field(default=-1, ge=-1)
    queued_jobs: int = Field(default=-1, ge=-1)
    submissions_per_day: int = Field(default=-1, ge=-1)
    machines: int = Field(default=-1, ge=-1)

    @field_validator("*")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 would let nobody do anything; -1 is no bound")
        return value

    @property
    def bounds(self) -> model.Quota:
        """As the core has it."""
        return model.Quota(**self.model_dump())


class StudentQuota(Quota):
    """What a student has of whom nothing else is said."""

    queued_jobs: int = Field(default=model.STUDENT_QUOTA.queued_jobs, ge=-1)
    submissions_per_day: int = Field(default=model.STUDENT_QUOTA.submissions_per_day, ge=-1)


class Settings(BaseSettings):
    """All settings. Durations are in seconds, sizes in bytes. Build with `load`."""

    model_config = SettingsConfigDict(
        env_prefix="SYNDICATE_MANAGER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    state_dir: Path
    listen_users: str = "127.0.0.1:7000"
    listen_volunteers: str = "127.0.0.1:7001"
    metrics_listen: str = ""
    client: Path | None = None
    clients: int | None = Field(None, ge=0)
    log_format: Literal["auto", "json", "console"] = "auto"
    stop_grace_s: float = Field(3.0, ge=0)

    max_source_bytes: int = Field(10 << 20, gt=0)
    upload_timeout_s: float = Field(300.0, gt=0)
    log_cap_bytes: int = Field(64 << 20, gt=0)
    history_bytes: int = Field(64 << 20, gt=0)
    history_job_bytes: int = Field(256 << 20, gt=0)
    history_all_bytes: int = Field(8 << 30, ge=0)
    disk_bytes: int = Field(64 << 20, gt=0)
    disk_job_bytes: int = Field(512 << 20, gt=0)
    disk_all_bytes: int = Field(8 << 30, gt=0)

    heartbeat_interval_s: float = Field(5.0, gt=0)
    orphan_after_s: float = Field(30.0, gt=0)
    lost_after_s: float = Field(40.0, gt=0)
    forget_after_s: float = Field(259_200.0, gt=0)
    default_time_limit_s: float = Field(600.0, gt=0)
    max_time_limit_s: float = Field(86_400.0, gt=0)
    max_attempts: int = Field(3, ge=1)
    max_queued: int = Field(100_000, ge=1)
    max_slots_per_job: int = Field(1000, ge=1)
    keep_ended: int = Field(1000, ge=1)
    keep_jobs: int = Field(100_000, ge=1)
    keep_audit: int = Field(1_000_000, ge=1)
    prefixes: str = "10.77.0.0/16"
    allow_unsafe: bool = False
    insecure: bool = False
    limits: Limits = Limits()
    max_limits: MaxLimits = MaxLimits()

    publish_client_logs: bool = False
    token_ttl_s: float = Field(15_552_000.0, gt=0, le=3.2e8)
    student_quota: StudentQuota = StudentQuota()
    staff_quota: Quota = Quota()
    team_quota: Quota = Quota()
    user_calls_per_s: float = Field(50.0, gt=0)
    user_calls_burst: float = Field(500.0, ge=1)
    user_changes_per_day: float = Field(5_000.0, ge=1)
    user_streams: int = Field(64, ge=1)
    user_uploads: int = Field(4, ge=1)
    user_upload_bytes_per_s: float = Field(32 << 20, gt=0)
    user_upload_bytes_per_day: float = Field(2 << 30, gt=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file; no other."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("listen_users", "listen_volunteers", "metrics_listen")
    @classmethod
    def _address(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.field_name == "metrics_listen":
            return value
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdecimal() and int(port) <= 65_535):
            raise ValueError(f"{value!r} is not HOST:PORT")
        return value

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, value: str) -> str:
        ipaddress.IPv4Network(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        least = 1.1 * (self.orphan_after_s + _KILL_S)
        if self.lost_after_s < least:
            raise ValueError(
                f"lost_after_s is {self.lost_after_s:g}: with orphan_after_s {self.orphan_after_s:g} it must "
                f"be at least {least:g}, or a task could still run where its slot is given away"
            )
        if self.orphan_after_s < 3 * self.heartbeat_interval_s:
            raise ValueError("orphan_after_s must be at least three times heartbeat_interval_s")
        if self.forget_after_s < self.lost_after_s:
            raise ValueError("forget_after_s must be at least lost_after_s")
        if not self.disk_bytes <= self.disk_job_bytes <= self.disk_all_bytes:
            raise ValueError("disk_bytes must be at most disk_job_bytes, and that at most disk_all_bytes")
        if self.keep_jobs < self.keep_ended:
            raise ValueError(f"keep_jobs must be at least keep_ended, which is {self.keep_ended}")
        if self.default_time_limit_s > self.max_time_limit_s:
            raise ValueError(
                f"default_time_limit_s is {self.default_time_limit_s:g}, above max_time_limit_s, which is "
                f"{self.max_time_limit_s:g}: a job that asks for no limit would be refused"
            )
        if self.default_clients >= self.max_slots_per_job:
            raise ValueError(
                f"clients is {self.default_clients}: beside them a job of at most {self.max_slots_per_job} "
                "slots (max_slots_per_job) has no machine"
            )
        if self.insecure:
            for name in ("listen_users", "listen_volunteers"):
                if told := elsewhere(getattr(self, name)):
                    raise ValueError(
                        f"{name} is {told}: insecure is clear text, and for loopback only "
                        "(127.0.0.1, localhost, [::1])"
                    )
        if self.clients and self.client is None:
            raise ValueError("clients are asked for, but no client's source is given (--client)")
        self._limits_fit()
        return self

    def _limits_fit(self) -> None:
        """Raises ValueError where a job that asks for nothing would be refused, or get more than the most."""
        for name, most in self.max_limits.model_dump().items():
            default = getattr(self.limits, name)
            # No bytes of a log are a bound; of anything else 0 is none.
            unbounded = not default and not name.startswith("log_")
            if most and (default > most or unbounded):
                said = "0, which is no bound" if unbounded else figure(name, default)
                raise ValueError(
                    f"limits.{name} is {said}: above max_limits.{name}, which is {figure(name, most)}"
                )
        if shortfall(self._default_limits) > 0:
            raise ValueError(
                f"limits.disk_bytes is {size(self.limits.disk_bytes)}: it lies in memory, and with "
                f"{size(BESIDE_DISK_BYTES)} beside it does not fit in limits.memory_bytes, which is "
                f"{size(self.limits.memory_bytes)}"
            )

    @property
    def _default_limits(self) -> model.Limits:
        return model.Limits(**self.limits.model_dump())

    @property
    def history_bounds(self) -> Bounds:
        """How much clients hand over."""
        return Bounds(self.history_bytes, self.history_job_bytes)

    @property
    def disk_bounds(self) -> DiskBounds:
        """How much of tasks' disks is kept."""
        return DiskBounds(self.disk_bytes, self.disk_job_bytes, self.disk_all_bytes)

    @property
    def user_limits(self) -> UserLimits:
        """What one student may do at once."""
        return UserLimits(
            calls_per_s=self.user_calls_per_s,
            calls_burst=self.user_calls_burst,
            changes_per_day=self.user_changes_per_day,
            streams=self.user_streams,
            uploads=self.user_uploads,
            upload_bytes_per_s=self.user_upload_bytes_per_s,
            upload_bytes_per_day=self.user_upload_bytes_per_day,
        )

    @property
    def default_clients(self) -> int:
        """How many clients a job gets that does not say: one, where there is a default client."""
        if self.client is None:
            return 0
        return 1 if self.clients is None else self.clients

    def config(
        self, cluster_id: str, epoch: int, boot_id: str, default_client: model.Source | None
    ) -> model.Config:
        """What of it the core works with."""
        return model.Config(
            cluster_id=cluster_id,
            epoch=epoch,
            boot_id=boot_id,
            heartbeat_interval_s=self.heartbeat_interval_s,
            orphan_after_s=self.orphan_after_s,
            lost_after_s=self.lost_after_s,
            forget_after_s=self.forget_after_s,
            max_attempts=self.max_attempts,
            max_queued=self.max_queued,
            max_slots_per_job=self.max_slots_per_job,
            default_time_limit_s=self.default_time_limit_s,
            max_time_limit_s=self.max_time_limit_s,
            default_client=default_client,
            default_clients=self.default_clients,
            prefixes=self.prefixes,
            allow_unsafe=self.allow_unsafe,
            keep_ended=self.keep_ended,
            limits=self._default_limits,
            max_limits=model.Limits(**self.max_limits.model_dump()),
            student_quota=self.student_quota.bounds,
            staff_quota=self.staff_quota.bounds,
            team_quota=self.team_quota.bounds,
            token_ttl_s=self.token_ttl_s,
        )


def is_loopback(address: str) -> bool:
    """Whether what listens on HOST:PORT can be reached from this machine alone."""
    return not elsewhere(address)


def elsewhere(address: str) -> str:
    """HOST:PORT where others reach it, for messages; else empty.

    `localhost` is looked up: where /etc/hosts does not have it, it may lead anywhere.
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        if host != "localhost":
            return "" if ipaddress.ip_address(host).is_loopback else address
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except ValueError:
        return address
    except OSError:
        return ""  # nor does gRPC find one then
    far = sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)
    return f"{address} ({', '.join(far)} here)" if far else ""


def _line(mistake: ErrorDetails, flags: Collection[str], file: Path | None) -> str:
    where = ".".join(str(part) for part in mistake["loc"]) or "settings"
    what = wrong(mistake, Settings.model_fields, "SYNDICATE_MANAGER_")
    told = f"{where}: {what}"
    if file is None or not mistake["loc"]:
        return told
    name = str(mistake["loc"][0])
    elsewhere = name in flags or any(
        key.upper().startswith(f"SYNDICATE_MANAGER_{name.upper()}") for key in os.environ
    )
    return told if elsewhere else place(file, mistake["loc"]) + told


def load(flags: dict[str, Any], file: Path | None) -> Settings:
    """The settings from all sources; flags that are None were not given. Raises BadSettings."""

    class FromFile(Settings):
        """Settings, with the file among the sources."""

        model_config = SettingsConfigDict(toml_file=file)

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        if file is not None and not file.is_file():
            raise BadSettings(f"there is no configuration file {file}")
        return FromFile(**given)
    except OSError as error:  # as where the file, or a folder above it, is closed to this user
        why = (error.strerror or str(error)).lower()
        raise BadSettings(f"{file} cannot be read ({why})") from None
    except ValidationError as error:
        lines = [_line(one, given, file) for one in error.errors(include_url=False)]
        raise BadSettings("\n".join(lines)) from None
    except SettingsError as error:  # of a variable that holds more than one value
        named = str(error).split('"')[1:2] or ["…"]
        raise BadSettings(f"SYNDICATE_MANAGER_{named[0].upper()}: it is no JSON") from None
    except ValueError as error:  # tomllib's
        raise BadSettings(f"{file}: {error}") from None
