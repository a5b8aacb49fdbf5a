"""The least that spreads over machines: a client on one, its member on the other, a router between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import JOBS, eventually
from tests.support.hosts import assert_spread, nothing_is_left, routed, run

pytestmark = pytest.mark.system


def test_one_machine_breaks_the_other(tmp_path: Path) -> None:
    """The member is paused, filled, signalled, killed and revived, and the client cut from it."""
    with routed(tmp_path, "ab") as hosts:
        job = run(hosts, str(JOBS / "probes"), "-n", "1", "--client", str(JOBS / "hosts-client"))
        assert job["state"] == "succeeded", job["output"]
        assert_spread(hosts, job, 2)
        assert eventually("nothing left", lambda: not nothing_is_left(hosts)), nothing_is_left(hosts)
