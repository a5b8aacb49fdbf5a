"""A keeper is asked to boot its machine again, and has not been told that its operator wants that."""

from __future__ import annotations

import pytest
from keeper.harness import KeeperProcess, Link, network_instance
from syndicate.volunteer.local import ErrorCode, Reboot, Sync, Synced


async def test_it_boots_nothing_unless_the_operator_said_so(link: Link) -> None:
    """Whoever speaks for the volunteer cannot have it otherwise."""
    refused = await link.refused(Reboot())
    account = await link.ask(Sync())

    assert refused.code is ErrorCode.WRONG_STATE
    assert isinstance(account, Synced) and (account.reboots, account.used) == (False, False)


def test_without_systemd_there_is_nobody_to_boot_it(keeper: KeeperProcess) -> None:
    """The keeper says so before it takes anything of the machine."""
    other = KeeperProcess(keeper.base / "other", network_instance()[::-1], extra=("--after-job", "reboot"))
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")

    with pytest.raises(AssertionError, match="after_job: this machine was not booted by systemd"):
        other.start(prefix=hidden)
