"""What the keeper asks of a network, whichever kind it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...local import NetworkState

# What to do when the kernel cannot do a thing; told with the error of that thing.
REMEDIES = {
    "netns": "run the keeper as root with CAP_SYS_ADMIN and CAP_NET_ADMIN; the kernel needs CONFIG_NET_NS",
    "veth": "load the module: modprobe veth (CONFIG_VETH)",
    "bridge": "load the module: modprobe bridge (CONFIG_BRIDGE)",
    "nft_tables": "load the module: modprobe nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV)",
    "nft_sets": "load the module: modprobe nf_tables (nft_set_hash)",
    "nft_ingress": "needs CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS",
    "nft_egress": "needs Linux 5.16 or newer with CONFIG_NETFILTER_EGRESS",
    "nft_skuid": "needs meta skuid in nf_tables (Linux 5.16 or newer)",
}

# How a kernel says that it lacks something; ENOENT stands for a chain type or expression without its module.
_UNSUPPORTED = frozenset(
    {errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOENT, errno.EINVAL, errno.ENOSYS}
)


class NetworkError(Exception):
    """The network could not be made as asked: one line that says what failed, why, and the remedy if known.

    Attributes:
        code: the errno of the kernel's refusal, 0 where the refusal is this package's own.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def refused(cls, what: str, code: int, detail: str = "") -> NetworkError:
        """The kernel answered `what` with the errno `code`; `detail` is its own explanation, if any."""
        reason = os.strerror(code) if code else "unknown error"
        return cls(f"{what}: {reason}" + (f" ({detail})" if detail else ""), code)

    def with_remedy(self, capability: str) -> NetworkError:
        """The same error followed by what mends it, if it says that the kernel or a right is lacking."""
        if self.code in (errno.EPERM, errno.EACCES):
            return NetworkError(f"{self}; {REMEDIES['netns']}", self.code)
        if self.code in _UNSUPPORTED:
            return NetworkError(f"{self}; {REMEDIES[capability]}", self.code)
        return self


@dataclass(frozen=True)
class Counters:
    """Packets that a slot's chains dropped since the slot was made.

    Attributes:
        cut_out: sent by the slot to a peer that it is cut from, in silence or by resets.
        cut_in: sent to the slot by a peer that it is cut from.
        lost: of the loss of its links, in either direction.
        refused_out: sent by the slot, not its job's business or not in its own name.
        refused_in: sent to the slot by others than its job's members.
    """

    cut_out: int
    cut_in: int
    lost: int
    refused_out: int
    refused_in: int


class SlotNetwork(Protocol):
    """The network of one slot; one thread at a time uses it, different slots may be used at once."""

    @property
    def netns_fd(self) -> int | None:
        """File descriptor of the slot's network namespace, owned by the slot; None in the host's network."""

    @property
    def mac(self) -> str:
        """The hardware address that its packets carry, as `aa:bb:cc:dd:ee:ff`."""

    def assign(self, address: str, prefix_length: int, peers: Sequence[str], uid: int) -> None:
        """Give the slot its address and let it reach `peers`, the addresses of its job.

        Called once. `peers` may hold `address` itself. `uid` is the task's, used where the slot has no
        namespace of its own. Raises NetworkError; the slot is then fit only to be closed.
        """

    def hold(self, uid: int) -> None:
        """Let nothing of the slot pass, either way, until `resume`; also of what `assign` gives meanwhile.

        `uid` is as in `assign`. In the host's network what comes in is not told apart by task, nor what
        stays on the host. Idempotent. Raises NetworkError.
        """

    def resume(self) -> None:
        """End `hold`: let pass what `assign` gave, if it did. Idempotent. Raises NetworkError."""

    def set_state(self, state: NetworkState) -> None:
        """Let the slot's network suffer exactly this, from the moment of the return.

        Absolute, atomic and idempotent; nothing heals by itself. Raises NetworkError for what this network
        cannot do and for what the kernel refuses; then what held before still holds.
        """

    def counters(self) -> Counters:
        """What was dropped so far. Raises NetworkError."""

    def close(self) -> None:
        """Leave nothing of the slot: from the return on no packet passes, and the chains are gone.

        The kernel ends the namespace and its devices in its own time, about 30 ms after the last process in
        it ended and the last descriptor was closed. Idempotent; raises NetworkError after trying everything.
        """


class Network(Protocol):
    """All that the keeper puts into the kernel's network for its slots."""

    @property
    def kind(self) -> str:
        """`fabric` or `host`."""

    def faults(self) -> dict[str, str]:
        """What slots can suffer here, found at `open`: as of `_capabilities.faults`."""

    def open(self) -> None:
        """Make what the slots share. Raises NetworkError with the remedy, having left nothing."""

    def make_slot(self, name: str) -> SlotNetwork:
        """Make a slot that reaches nothing yet; the slow part, to be done ahead.

        `name` stands in errors and in `leftovers`. Raises NetworkError, having left nothing.
        """

    def set_states(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> None:
        """`set_state` of several slots of this network at once: all of them or none.

        No slot may stand there twice. Raises NetworkError as `set_state` does.
        """

    def is_brief(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> bool:
        """Whether `set_states` of these takes some tenths of a millisecond now, and waits for nobody."""

    def close(self) -> None:
        """Close every slot and all that they share. Idempotent; raises NetworkError after trying all."""

    def leftovers(self) -> list[str]:
        """Each namespace, device and table of this instance that no open slot explains, one line each.

        Waits some seconds for what the kernel is still removing. Raises NetworkError.
        """
