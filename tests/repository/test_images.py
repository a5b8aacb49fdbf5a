"""What docker/ holds fits what it is made for, as far as can be seen without an engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from syndicate.volunteer.keeper.capabilities import CAPABILITIES

from tests.support.cluster import ROOT
from tests.support.make import dry_run

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
VOLUNTEER = COMPOSE["services"]["volunteer"]


def test_a_volunteer_has_the_rights_that_a_keeper_needs() -> None:
    """Those and no others; raising bounds is left out, since engines often may not give it themselves."""
    named = {right.name.upper() for right in CAPABILITIES} - {"SYS_RESOURCE"}
    assert (VOLUNTEER["cap_drop"], set(VOLUNTEER["cap_add"])) == (["ALL"], named)
    assert "privileged" not in VOLUNTEER


def test_a_volunteer_has_devices_of_the_host_only_where_it_is_asked_for() -> None:
    """Whoever may open loop devices reads and writes those of the host as well."""
    more = yaml.safe_load((DOCKER / "lose-unsynced.yaml").read_text())["services"]["volunteer"]
    assert not {"devices", "device_cgroup_rules"} & set(VOLUNTEER) and "device_cgroup_rules" in more
    assert "lose-unsynced" not in dry_run("cluster").stdout
    assert "--file docker/lose-unsynced.yaml" in dry_run("cluster", "LOSE_UNSYNCED=1").stdout


def test_the_manager_has_no_rights() -> None:
    """No capability, no way to get one, and files that it cannot write but its state."""
    manager = COMPOSE["services"]["manager"]
    assert (manager["cap_drop"], manager["read_only"]) == (["ALL"], True)
    assert "cap_add" not in manager and "no-new-privileges:true" in manager["security_opt"]
    assert "USER syndicate" in (DOCKER / "Dockerfile").read_text()


def test_who_holds_the_keys_is_not_at_home_where_others_write() -> None:
    """Python imports from the working directory, and a shell runs what lies in its home."""
    manager = (DOCKER / "Dockerfile").read_text().partition("FROM common AS manager")[2].partition("FROM ")[0]
    assert re.findall(r"(?:HOME=|WORKDIR )(\S+)", manager) == ["/var/lib/syndicate", "/"]
    for script in ("manager-entry", "await-volunteers"):
        assert re.findall(r"python3 (\S+)", (DOCKER / script).read_text()) == ["-I"]


def test_the_cluster_has_four_volunteers_and_three_volumes() -> None:
    """State that survives its containers, the invitation, and a /home that all have."""
    assert VOLUNTEER["scale"] == 4 and set(COMPOSE["volumes"]) == {"state", "invitation", "home"}
    for service in COMPOSE["services"].values():
        assert "home:/home" in service["volumes"]


def test_all_that_images_copy_is_laid_beside_them() -> None:
    """Of the files of docker/ by docker/context, which makes the wheels as well."""
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split() if "/" not in name}
    laid = re.search(r"^files=\((.*)\)$", (DOCKER / "context").read_text(), re.MULTILINE)
    assert laid is not None and names == set(laid[1].split()) - {"Dockerfile"}
    assert all((DOCKER / name).stat().st_mode & 0o111 for name in names)


def test_the_base_is_pinned() -> None:
    """By its digest."""
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^ARG SYNDICATE_BASE=debian:\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${SYNDICATE_BASE}", "common"}


@pytest.mark.parametrize("volunteers", [4, 8])
def test_make_brings_it_up(volunteers: int) -> None:
    """With as many volunteers as asked for, four where nothing is said."""
    words = [] if volunteers == 4 else [f"VOLUNTEERS={volunteers}"]
    assert f"up --detach --scale volunteer={volunteers}\n" in dry_run("cluster", *words).stdout
