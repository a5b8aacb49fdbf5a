"""Which of the kernel's two ways makes resets; that each way holds is seen where a kernel has it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import cast

import pytest
from syndicate.volunteer.keeper.network import NetworkError
from syndicate.volunteer.keeper.network import _nft as nft
from syndicate.volunteer.keeper.network import _route as route
from syndicate.volunteer.keeper.network._detours import Pair, make_resets
from syndicate.volunteer.keeper.network._netlink import Message, NetlinkSocket

_BRIDGE = route.Device(1, "synbr", "02:00:00:00:00:01")
_PAIR = Pair(route.Device(2, "synport"), route.Device(3, "synother"))


class Kernel:
    """Answers the first of its transactions with this error, if any, and notes what was asked."""

    def __init__(self, code: int) -> None:
        self._code = code
        self.asked: list[str] = []

    def request(self, messages: Sequence[Message]) -> None:
        self.asked += [message.what for message in messages]

    def transaction(self, messages: Sequence[Message]) -> None:
        self.asked.append(f"{len(messages)} of family {messages[0].data[16]}")
        code, self._code = self._code, 0
        if code:
            raise NetworkError.refused(messages[-1].what, code)


def made(kernel: Kernel) -> list[str]:
    """What was asked of it when resets were to be made."""
    links, chains = cast(NetlinkSocket, kernel), cast(nft.NftSocket, kernel)
    make_resets(links, chains, "syn_t", _PAIR, _BRIDGE)
    return kernel.asked


def test_a_device_answers_where_it_can() -> None:
    """Then no bridge's hook is taken."""
    assert made(Kernel(0)) == [f"3 of family {nft.NETDEV}"]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EOPNOTSUPP])
def test_a_bridge_answers_where_no_device_can(code: int) -> None:
    """The pair's other end is its port then, deaf as the first."""
    asked = made(Kernel(code))
    assert [asked[0], asked[-1]] == [f"3 of family {nft.NETDEV}", f"4 of family {nft.BRIDGE}"]
    assert asked[1:-1] == ["make synother a port of synbr", "set up bridge port synother"]


def test_a_lack_of_rights_is_no_reason_to_try_the_bridge() -> None:
    """It is told as it is."""
    with pytest.raises(NetworkError, match="not permitted"):
        made(Kernel(errno.EPERM))
