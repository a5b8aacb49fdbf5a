"""The conversation with the kernel: errors that say what failed, lost answers, deadlines."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator

import pytest
from syndicate.volunteer.keeper.network import NetworkError
from syndicate.volunteer.keeper.network import _nft as nft
from syndicate.volunteer.keeper.network import _route as route
from syndicate.volunteer.keeper.network._common import check_interface
from syndicate.volunteer.keeper.network._namespace import make_namespace
from syndicate.volunteer.keeper.network._netlink import NetlinkSocket

BRIDGE = route.Device(100, "synbridge", "02:00:00:00:00:01")
TABLE = nft.Table(nft.NETDEV, "syn_test")


@pytest.fixture
def sockets() -> Iterator[tuple[NetlinkSocket, nft.NftSocket]]:
    """Both kinds of socket in a namespace of their own."""
    netns_fd, (link, chains) = make_namespace(lambda: (NetlinkSocket(route.NETLINK_ROUTE), nft.NftSocket()))
    yield link, chains
    link.close()
    chains.close()
    os.close(netns_fd)


def test_refusal_names_message_and_reason(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """An error says what was asked, the kernel's reason, and its own explanation where it gives one."""
    link, _ = sockets
    nowhere = route.add_address(route.Device(99, "synx"), check_interface("10.0.0.1", 24))

    with pytest.raises(NetworkError) as exists:
        link.request([route.make_bridge(BRIDGE), route.make_bridge(BRIDGE)])
    with pytest.raises(NetworkError) as explained:
        link.request([nowhere])

    assert (str(exists.value), exists.value.code) == ("make bridge synbridge: File exists", errno.EEXIST)
    assert str(explained.value).startswith("give synx the address 10.0.0.1/24: No such device (")


def test_requests_go_on_after_a_refusal(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """The first refusal of several messages is raised, those that follow are done all the same."""
    link, _ = sockets
    absent = route.set_up(77, "absent")

    with pytest.raises(NetworkError, match="bring up absent: No such device"):
        link.request([absent, route.make_bridge(BRIDGE), absent])

    assert "synbridge" in {device.name for device in route.devices(link)}


def test_transaction_is_all_or_nothing(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """A table made in a batch whose last message fails is not there."""
    _, chains = sockets

    with pytest.raises(NetworkError, match="empty set absent"):
        chains.transaction([TABLE.create(), TABLE.flush("absent")])

    assert nft.tables(chains.link, nft.NETDEV) == []


def test_lost_answers_are_told_and_the_socket_lives_on(
    sockets: tuple[NetlinkSocket, nft.NftSocket],
) -> None:
    """Answers that overflow the socket's buffer are an error, and later exchanges are right again."""
    link, _ = sockets
    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    with pytest.raises(NetworkError, match="read the answer: No buffer space available"):
        link.request([route.set_up(1, "lo")] * 50)

    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    with pytest.raises(NetworkError, match="bring up absent: No such device"):
        link.request([route.set_up(77, "absent")])
    link.request([route.set_up(1, "lo")])


def test_answers_to_others_are_passed_over(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """A refusal that belongs to an exchange given up earlier is not taken for one of this exchange."""
    link, _ = sockets
    given_up = bytearray(route.set_up(77, "absent").data)
    given_up[8:12] = (12_345).to_bytes(4, sys.byteorder)
    link._socket.send(given_up)

    link.request([route.make_bridge(BRIDGE)])

    assert "synbridge" in {device.name for device in route.devices(link)}


def test_silent_kernel_is_an_error_at_the_deadline() -> None:
    """A message that asks for no answer never gets one: the wait ends at the deadline."""
    netns_fd, link = make_namespace(lambda: NetlinkSocket(nft.NETLINK_NETFILTER, timeout=0.05))
    silent = nft._bracket("nothing", 0x10)
    try:
        with pytest.raises(NetworkError, match=r"nothing.*: the kernel did not answer within 0.05 s") as late:
            link.request([silent])
    finally:
        link.close()
        os.close(netns_fd)

    assert late.value.code == errno.ETIMEDOUT


def test_long_dump_is_read_whole(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """A dump that comes in several pieces lists everything once."""
    _, chains = sockets
    names = [f"syn_{number}" for number in range(2000)]
    for start in range(0, len(names), 100):
        chains.transaction([nft.Table(nft.NETDEV, name).create() for name in names[start : start + 100]])

    assert sorted(nft.tables(chains.link, nft.NETDEV)) == sorted(names)


def test_sequence_numbers_wrap(sockets: tuple[NetlinkSocket, nft.NftSocket]) -> None:
    """Exchanges go on when the sequence numbers reach their end."""
    link, _ = sockets
    link._sequence = 0x7FFFFFFF - 1

    link.request([route.set_up(1, "lo"), route.set_up(1, "lo"), route.set_up(1, "lo")])
    link.request([route.set_up(1, "lo")])

    assert link._sequence == 5
