"""What the manager tells Prometheus. Loaded only where it is asked for (`metrics_listen`)."""

from .exposition import LoopLag, MetricsServer
from .families import CommitMeter, ManagerFamilies, Watched

__all__ = ["CommitMeter", "LoopLag", "ManagerFamilies", "MetricsServer", "Watched"]
