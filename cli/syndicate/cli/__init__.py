"""``syndicatectl``, the command of users and staff."""

import os

# gRPC's own log lines (a manager that restarts makes some) would stand among the answers. It reads this once,
# when it is imported, so it must be said before.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
