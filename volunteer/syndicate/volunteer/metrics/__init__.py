"""What the volunteer tells Prometheus. Loaded only where it is asked for (`metrics_listen`)."""

from .exposition import LoopLag, MetricsServer
from .families import VolunteerFamilies

__all__ = ["LoopLag", "MetricsServer", "VolunteerFamilies"]
