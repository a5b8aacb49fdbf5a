"""A keeper is asked to boot its machine again, and has not been told that its operator wants that."""

from __future__ import annotations

from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, network_instance
from syndicate.volunteer.keeper import rebooting
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.local import ErrorCode, Reboot, Sync, Synced


async def test_it_boots_nothing_unless_the_operator_said_so(link: Link) -> None:
    """Whoever speaks for the volunteer cannot have it otherwise."""
    refused = await link.refused(Reboot())
    account = await link.ask(Sync())

    assert refused.code is ErrorCode.WRONG_STATE
    assert isinstance(account, Synced) and (account.reboots, account.used) == (False, False)


def test_a_mark_that_cannot_be_written_refuses_the_task_alone(tmp_path: Path) -> None:
    """As where /run is full: the keeper, and what else runs, goes on."""
    use = rebooting.Use(tmp_path / "full" / "used")

    with pytest.raises(KeeperError, match="used cannot be written: No such file") as refused:
        use.note()

    assert refused.value.code is ErrorCode.FAILED and not use.is_noted


def test_without_systemd_there_is_nobody_to_boot_it(keeper: KeeperProcess) -> None:
    """The keeper says so before it takes anything of the machine."""
    other = KeeperProcess(keeper.base / "other", network_instance()[::-1], extra=("--after-job", "reboot"))
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")

    with pytest.raises(AssertionError, match="after_job: this machine was not booted by systemd"):
        other.start(prefix=hidden)
