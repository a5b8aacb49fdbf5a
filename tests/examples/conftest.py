"""Makes the examples importable: each is a source of its own, run from its own folder."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests
for source in ("raft-kv", "raft-kv/client", "redis/client"):
    sys.path.insert(0, str(EXAMPLES / source))
