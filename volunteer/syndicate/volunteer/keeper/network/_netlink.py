"""Netlink requests over one own socket: pyroute2 encodes and decodes, the conversation is ours.

Each message asks for its own acknowledgement, but in a transaction, of which only the last does. Answers are
matched by sequence number, and every wait has a deadline. A socket belongs to the namespace of the thread
that opened it and may be used from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

from ._contract import NetworkError

_SOL_NETLINK = 270
_SO_SNDBUFFORCE = 32
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_TRUNCATED = int(socket.MSG_TRUNC)  # a plain number: `&` with a flag makes a flag, in a dozen calls

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_STATUS = struct.Struct("=i")
_FLAGS, _FLAGS_OFFSET = struct.Struct("=H"), 6
_SEQUENCE, _SEQUENCE_OFFSET = struct.Struct("=I"), 8
_MAX_SEQUENCE = 0x7FFFFFFF
_DUMP_ATTEMPTS = 20
_AT_ONCE = 64  # messages whose answers may wait to be read
_LARGEST_DATAGRAM = 16 << 20
_BUFFER_SIZE = 1 << 16  # the kernel sends dumps in pieces of at most 32 KiB


@dataclass(frozen=True, slots=True)
class Message:
    """One encoded request; `what` says what it does, for errors."""

    what: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    kind: int
    flags: int
    sequence: int
    data: bytes  # with the header


def encode(what: str, message: Any, kind: int, flags: int = 0, *, acknowledged: bool = True) -> Message:
    """Encode a pyroute2 message as a request that asks for an acknowledgement, or as one that does not."""
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | (NLM_F_ACK if acknowledged else 0) | flags
    message.encode()
    return Message(what, bytes(message.data))


class NetlinkSocket:
    """A conversation with the kernel, in the namespace of the thread that makes it.

    Args:
        protocol: NETLINK_ROUTE or NETLINK_NETFILTER.
        timeout: seconds that one exchange may take, waiting for other threads' exchanges included.

    Raises NetworkError, here and in each method: if the kernel lacks the protocol, refuses a message, or
    does not answer in time.
    """

    def __init__(self, protocol: int, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._sequence = 1
        self._buffer = bytearray(_BUFFER_SIZE)
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise NetworkError.refused(f"open netlink socket {protocol}", error.errno or 0) from error
        try:
            # The kernel has most answers ready when it has taken the request: nothing is waited for then.
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            with contextlib.suppress(PermissionError):  # a transaction is one datagram
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _LARGEST_DATAGRAM)
        except OSError as error:
            self._socket.close()
            raise NetworkError.refused(f"set up netlink socket {protocol}", error.errno or 0) from error

    @property
    def busy(self) -> bool:
        """Whether somebody's exchange is under way."""
        return self._lock.locked()

    def request(self, messages: Sequence[Message]) -> None:
        """Have each message done in turn; the first refusal is raised after all were tried."""
        refusals: list[NetworkError] = []
        with _Exchange(self) as exchange:
            for start in range(0, len(messages), _AT_ONCE):  # their answers must fit into the socket
                some = messages[start : start + _AT_ONCE]
                first = exchange.send(some)
                try:
                    exchange.collect(some, first)
                except NetworkError as error:
                    refusals.append(error)
        if refusals:
            raise refusals[0]

    def transaction(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Have all messages done or none.

        The kernel tells of each refusal whether it was asked or not, in the order of the messages; so they
        are encoded as not acknowledged, and the last is sent as one that is, which is much less to read.
        """
        if not messages:
            return
        with _Exchange(self) as exchange:
            first = exchange.send([begin, *messages, end], acknowledged=messages[-1])
            exchange.collect(messages, first + 1, bracket=first)

    def dump(self, message: Message) -> list[bytes]:
        """Every answer to a request that was encoded with NLM_F_DUMP, headers included."""
        for _ in range(_DUMP_ATTEMPTS):
            with _Exchange(self) as exchange:
                answers = exchange.collect_dump(message, exchange.send([message]))
            if answers is not None:
                return answers
        raise NetworkError(f"{message.what}: changed under the reader {_DUMP_ATTEMPTS} times", errno.EINTR)

    def close(self) -> None:
        """Release the socket, and with it its hold on the namespace. Idempotent."""
        self._socket.close()


class _Exchange:
    """One request and its answers, alone on the socket and within one deadline."""

    def __init__(self, link: NetlinkSocket) -> None:
        self._link = link
        self._deadline = time.monotonic() + link._timeout

    def __enter__(self) -> _Exchange:
        if not self._link._lock.acquire(timeout=self._link._timeout):
            raise NetworkError("netlink: other requests kept the socket busy", errno.ETIMEDOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._link._lock.release()

    def send(self, messages: Sequence[Message], acknowledged: Message | None = None) -> int:
        """Send the messages as one datagram and return the sequence number of the first.

        `acknowledged` is one of them that asks for it, whether it was encoded so or not.
        """
        link = self._link
        if link._sequence + len(messages) > _MAX_SEQUENCE:
            link._sequence = 1
        first = link._sequence
        packet = bytearray()
        for sequence, message in enumerate(messages, first):
            start = len(packet)
            packet += message.data
            _SEQUENCE.pack_into(packet, start + _SEQUENCE_OFFSET, sequence)
            if message is acknowledged:
                (flags,) = _FLAGS.unpack_from(packet, start + _FLAGS_OFFSET)
                _FLAGS.pack_into(packet, start + _FLAGS_OFFSET, flags | NLM_F_ACK)
        link._sequence = first + len(messages)
        try:
            while True:
                try:
                    link._socket.send(packet)
                    break
                except BlockingIOError:
                    self._await(select.POLLOUT)
        except OSError as error:
            raise NetworkError.refused(messages[0].what, error.errno or errno.ETIMEDOUT) from error
        return first

    def collect(self, messages: Sequence[Message], first: int, bracket: int | None = None) -> None:
        """Wait for the acknowledgement of each message; raise the first refusal.

        A refusal of `bracket` speaks for the whole transaction and is the last answer that matters.
        """
        end = first + len(messages)
        outstanding = set(range(first, end)) if bracket is None else {end - 1}
        refusals: dict[int, NetworkError] = {}
        while outstanding:
            for answer in self._receive(messages[-1].what):
                whole = answer.sequence == bracket
                if answer.kind != NLMSG_ERROR or not (whole or first <= answer.sequence < end):
                    continue  # an answer to an exchange that was given up earlier
                outstanding.discard(answer.sequence)
                if _code(answer) == 0:
                    continue
                if whole:
                    raise _refusal(f"commit “{messages[-1].what}”", answer)
                refusals[answer.sequence] = _refusal(messages[answer.sequence - first].what, answer)
        if refusals:
            raise refusals[min(refusals)]

    def collect_dump(self, message: Message, sequence: int) -> list[bytes] | None:
        """The parts of a dump, or None if it was interrupted by a change and must be asked for again."""
        parts: list[bytes] = []
        interrupted = False
        while True:
            for answer in self._receive(message.what):
                if answer.sequence != sequence:
                    continue
                interrupted |= bool(answer.flags & _NLM_F_DUMP_INTR)
                if answer.kind in (NLMSG_ERROR, NLMSG_DONE):
                    if _code(answer) != 0:
                        raise _refusal(message.what, answer)
                    return None if interrupted else parts
                parts.append(answer.data)

    def _receive(self, what: str) -> list[_Answer]:
        """The answers of one datagram."""
        link = self._link
        try:
            while True:
                try:
                    size, _, flags, sender = link._socket.recvmsg_into([link._buffer])
                    break
                except BlockingIOError:
                    self._await(select.POLLIN)
        except TimeoutError:
            late = f"{what}: the kernel did not answer within {link._timeout:g} s"
            raise NetworkError(late, errno.ETIMEDOUT) from None
        except OSError as error:
            # ENOBUFS: answers were lost and nobody knows what holds; the caller asks again or closes.
            self._drain()
            raise NetworkError.refused(f"{what}: read the answer", error.errno or 0) from error
        if flags & _TRUNCATED:
            raise NetworkError(f"{what}: the kernel's answer is over {_BUFFER_SIZE} bytes", errno.EMSGSIZE)
        if sender[0] != 0:
            return []  # another process wrote to our port; only port 0 is the kernel
        return _split(bytes(memoryview(link._buffer)[:size]))

    def _await(self, event: int) -> None:
        """Wait until the socket can go on; raises TimeoutError at the deadline."""
        poll = select.poll()
        poll.register(self._link._socket, event)
        if not poll.poll(max(self._deadline - time.monotonic(), 0.0) * 1e3):
            raise TimeoutError

    def _drain(self) -> None:
        """Throw away what waits to be read: the kernel adds nothing to an overflown socket before that."""
        while True:
            try:
                self._link._socket.recv_into(self._link._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NetworkError.refused("netlink: read on", error.errno or 0) from error


def _split(datagram: bytes) -> list[_Answer]:
    answers = []
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise NetworkError("netlink: an answer of impossible length", errno.EBADMSG)
        answers.append(_Answer(kind, flags, sequence, datagram[offset : offset + length]))
        offset += (length + 3) & ~3
    return answers


def _code(answer: _Answer) -> int:
    """The status that an acknowledgement or the end of a dump carries, 0 for success."""
    if len(answer.data) < _HEADER.size + _STATUS.size:
        return 0  # the end of a dump without a status
    (code,) = _STATUS.unpack_from(answer.data, _HEADER.size)
    return int(code)


def _refusal(what: str, answer: _Answer) -> NetworkError:
    """The error of an answer with a status."""
    return NetworkError.refused(what, -_code(answer), _explanation(answer))


def _explanation(answer: _Answer) -> str:
    """The kernel's own words for a refusal, where it has any (extended acknowledgement)."""
    if answer.kind != NLMSG_ERROR or not answer.flags & _NLM_F_ACK_TLVS:
        return ""
    offset = _HEADER.size + 4
    if answer.flags & _NLM_F_CAPPED:
        offset += _HEADER.size
    else:
        offset += (struct.unpack_from("=I", answer.data, offset)[0] + 3) & ~3
    while offset + 4 <= len(answer.data):
        length, kind = struct.unpack_from("=HH", answer.data, offset)
        if length < 4:
            return ""
        if kind == _NLMSGERR_ATTR_MSG:
            return answer.data[offset + 4 : offset + length].rstrip(b"\0").decode("utf-8", "replace")
        offset += (length + 3) & ~3
    return ""


__all__ = ["NLM_F_DUMP", "Message", "NetlinkSocket", "encode"]
