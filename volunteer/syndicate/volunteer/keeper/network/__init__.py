"""The network of a volunteer's slots: isolation, cuts and heals, held where no task can reach them."""

from ._alone import alone

# Only the messages of netlink are used. The package itself imports all that it has, to a database and what
# unittest is made of: 7 MB, which the keeper would hold for as long as it serves.
with alone("pyroute2"):
    from ._capabilities import faults
    from ._contract import Counters, Network, NetworkError, SlotNetwork
    from ._fabric import FabricNetwork
    from ._host import HostNetwork
    from ._namespace import in_namespace
    from ._probe import probe

__all__ = [
    "Counters",
    "FabricNetwork",
    "HostNetwork",
    "Network",
    "NetworkError",
    "SlotNetwork",
    "faults",
    "in_namespace",
    "probe",
]
