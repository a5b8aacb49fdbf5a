"""Where the manager is, for a volunteer that was told in several ways, or in none."""

from __future__ import annotations

from pathlib import Path

import pytest
from syndicate.volunteer import whereabouts
from syndicate.volunteer.settings import BadSettings, Settings, load
from syndicate.volunteer.whereabouts import from_dns, from_kernel


@pytest.fixture(autouse=True)
def _nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNDICATE_VOLUNTEER_MANAGER", raising=False)
    monkeypatch.setattr(whereabouts, "find", lambda: ())


def settled(file: Path | None = None, **flags: object) -> Settings:
    """Settings with what else they need."""
    return load({"state_dir": Path("/var/lib/s"), **flags}, file)


def test_the_nearest_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, then the file, then the environment, then what the machine itself finds."""
    file = tmp_path / "volunteer.toml"
    file.write_text('manager = ["file:1"]\n')
    monkeypatch.setattr(whereabouts, "find", lambda: ("found:3",))
    assert settled().manager == ("found:3",)
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_MANAGER", '["environment:2"]')
    assert settled().manager == ("environment:2",)
    assert settled(file).manager == ("file:1",)
    assert settled(file, manager=["flag:4"]).manager == ("flag:4",)


def test_nothing_is_looked_for_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was told its manager asks no name server."""
    monkeypatch.setattr(whereabouts, "find", lambda: pytest.fail("it was looked for"))
    assert settled(manager=["told:1"]).manager == ("told:1",)


def test_nobody_told(tmp_path: Path) -> None:
    """The error names every way."""
    with pytest.raises(BadSettings, match=r"file.*SYNDICATE_VOLUNTEER_MANAGER.*syndicate\.manager=.*DNS"):
        settled()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("quiet syndicate.manager=10.0.0.5:7001 ro", ("10.0.0.5:7001",)),
        ("syndicate.manager=a:1,b:2", ("a:1", "b:2")),
        ("syndicate.manager=a:1 syndicate.manager=b:2", ("b:2",)),
        ("xsyndicate.manager=a:1 syndicate.managers=b:2", ()),
        ("syndicate.manager=", ()),
    ],
)
def test_the_kernels_command_line(tmp_path: Path, line: str, found: tuple[str, ...]) -> None:
    """One word of it, whose last mention counts; a machine that hides it tells nothing."""
    (tmp_path / "cmdline").write_text(line + "\n")
    assert from_kernel(tmp_path / "cmdline") == found
    assert from_kernel(tmp_path / "none") == ()


def test_the_first_of_dns_is_taken() -> None:
    """Least priority, then most weight; a target of nothing means that there is none (RFC 2782)."""
    answers = [(20, 9, "far", 1), (10, 1, "light", 2), (10, 5, "heavy", 3)]
    assert from_dns(lambda: answers) == ("heavy:3",)
    assert from_dns(lambda: []) == () == from_dns(lambda: [(0, 0, "", 0)])


def test_an_invited_machine_asks_the_manager_it_found() -> None:
    """Where users call: on the manager's host, at the usual port."""
    mark = "a" * 64
    invited = {"join_token_file": Path("/t"), "ca_fingerprint": mark}
    assert settled(manager=["[fd00::1]:7001"], **invited).joins_at == "[fd00::1]:7000"
    assert settled(manager=["m:7001"], join="other:1", **invited).joins_at == "other:1"
    assert settled(manager=["m:7001"]).joins_at == ""
