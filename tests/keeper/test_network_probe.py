"""What the kernel can do, found out and told with a remedy."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from keeper.network_helpers import descriptors
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError, _actions, _delay, faults, probe
from syndicate.volunteer.keeper.network._namespace import held_namespaces
from syndicate.volunteer.local import Degradation, LinkState, NetworkState

NAMES = {"netns", "veth", "bridge", "nft_tables", "nft_sets", "nft_ingress", "nft_egress", "nft_skuid"}

FAULTS = {"one-way", "reset", "loss", "rate", "delay", "jitter", "duplicate", "corrupt", "reorder"}

UNPRIVILEGED = """
import os
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError, probe
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(probe()["netns"])
print(probe()["veth"])
try:
    FabricNetwork("tst").open()
except NetworkError as error:
    print(error)
"""


def test_this_kernel_can_do_all() -> None:
    """Where these tests run, every thing that slots need is there, and finding out leaves nothing."""
    held, before = held_namespaces(), descriptors()

    findings = probe()

    assert findings == dict.fromkeys(NAMES, "ok")
    assert held_namespaces() == held
    assert descriptors() <= before


def test_this_kernel_can_make_every_fault() -> None:
    """Where these tests run a fabric's slots can suffer everything, and finding out leaves nothing."""
    held, before = held_namespaces(), descriptors()

    assert faults("fabric") == dict.fromkeys(FAULTS, "ok")
    assert held_namespaces() == held
    assert descriptors() <= before


def test_a_host_network_can_cut_one_way_and_says_what_it_cannot() -> None:
    """Each other fault is named in one line with what to do instead."""
    findings = faults("host")

    assert findings.keys() == FAULTS
    assert findings.pop("one-way") == "ok"
    assert all(line.startswith(f"{name}: not in the host's network; give") for name, line in findings.items())


def test_fault_that_the_kernel_lacks_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses its expression, and one without the device of the delay line."""
    monkeypatch.setattr(_delay, "_TUN", "/dev/net/absent")
    monkeypatch.setattr(_actions, "_RANDOM", 7)

    findings = faults("fabric")

    assert findings["loss"].startswith("loss: add rule")
    assert "needs numgen in nf_tables" in findings["loss"]
    assert findings["delay"].startswith(
        "delay: open /dev/net/absent: No such file or directory; needs /dev/net"
    )
    assert findings["jitter"].startswith("jitter: open /dev/net/absent")
    assert (findings["reset"], findings["rate"]) == ("ok", "ok")


def test_network_without_a_fault_opens_and_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else works; the refusal is what was found."""
    monkeypatch.setattr(_delay, "_TUN", "/dev/net/absent")
    network = FabricNetwork("tst")
    network.open()
    try:
        slot = network.make_slot("one")

        slot.set_state(NetworkState(links=(LinkState("", Degradation(loss_percent=1, rate_bps=1000)),)))
        with pytest.raises(NetworkError, match="delay: open /dev/net/absent"):
            slot.set_state(NetworkState(links=(LinkState("", Degradation(delay_ms=1)),)))
    finally:
        network.close()


def test_lack_of_rights_is_told_with_the_remedy() -> None:
    """Without root neither probe nor open raises anything but one line that says what to do."""
    refusal = "make a network namespace: Operation not permitted; run the keeper as root with CAP_SYS_ADMIN"

    told = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()

    assert told[0].startswith(refusal)
    assert told[1] == "not tried: no network namespace"
    assert told[2].startswith(refusal)


NEEDS = "; the kernel needs CONFIG_NET_NS"


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (errno.EOPNOTSUPP, "Operation not supported; needs Linux 5.16 or newer with CONFIG_NETFILTER_EGRESS"),
        (
            errno.EPERM,
            "run the keeper as root with CAP_SYS_ADMIN and CAP_NET_ADMIN; the kernel needs CONFIG_NET_NS",
        ),
        (errno.EEXIST, "File exists"),
    ],
)
def test_remedy_fits_the_error(code: int, ending: str) -> None:
    """A missing capability names the kernel's version, a missing right names root, others name nothing."""
    error = NetworkError.refused("make chain egress in table syn_probe", code).with_remedy("nft_egress")

    assert str(error).startswith("make chain egress in table syn_probe: ")
    assert str(error).endswith(ending)
    assert error.code == code
