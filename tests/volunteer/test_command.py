"""The command: settings, exit statuses, and a run as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from syndicate.v1 import registry_pb2 as pb
from syndicate.volunteer import memory_file, settings
from syndicate.volunteer.__main__ import parse
from syndicate.volunteer.core.model import Memory
from syndicate.volunteer.settled import BadSettings, Settled
from volunteer.fakes import Bench, bench, eventually

COMMAND = [sys.executable, "-m", "syndicate.volunteer"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bench]:
    """Keeper and manager stand."""
    async with bench(tmp_path) as made:
        yield made


async def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Runs the command to its end: status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def run_arguments(world: Bench) -> list[str]:
    """The flags of `run`."""
    return [
        *(
            "run",
            "--manager",
            world.manager.target,
            "--insecure",
            "--token-file",
            str(world.folder / "token"),
        ),
        *("--keeper", str(world.keeper.path), "--state-dir", str(world.folder / "state")),
        *("--run-dir", str(world.folder / "run"), "--id", "node-a", "--log-format", "json"),
    ]


async def test_a_folder_that_cannot_be_used_is_told_by_its_name(world: Bench) -> None:
    """In one line, without Python's words for it."""
    (world.folder / "state").write_text("a file")
    code, _, err = await run(*run_arguments(world), "--allow-root")
    assert (code, err.splitlines()[-1]) == (
        74,
        f"error: {world.folder / 'state'} cannot be used (file exists)",
    )


async def test_a_process_is_ready_serves_and_ends_on_sigterm(world: Bench) -> None:
    """One line on stdout, systemd is told, status 0, tasks left as they are; clear text is warned of."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    notify.bind(str(world.folder / "notify"))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *run_arguments(world),
        "--allow-root",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NOTIFY_SOCKET": str(world.folder / "notify")},
    )
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
        await world.manager.attached()
        await world.manager.bring_up()
        process.send_signal(signal.SIGTERM)
        log = (await process.stderr.read()).decode()
        status = await process.wait()

    assert "the manager is spoken to in clear text" in log
    assert line.decode().split() == (
        ["ready", "node-a", "cluster", "c1", "at", f"{world.manager.target},", "slots", "in", "10.77.0.0/24"]
    )
    assert status == 0
    await eventually(world.manager.streams[0].ended.is_set)
    assert world.keeper.model.slots[0].state == "running"
    with notify:
        assert [notify.recv(100) for _ in range(4)] == [
            b"STATUS=waits for a manager",
            b"READY=1",
            f"STATUS=node-a of cluster c1 at {world.manager.target}".encode(),
            b"STOPPING=1",
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
async def test_root_is_refused_with_the_remedy(world: Bench) -> None:
    """The volunteer needs none, and should have none."""
    status, out, err = await run(*run_arguments(world))

    assert (status, out) == (77, "")
    assert "runuser" in err


async def test_settings_that_make_no_sense_are_told_line_by_line() -> None:
    """Status 78."""
    status, _, err = await run("run", "--manager", "nonsense", "--state-dir", "/tmp")

    assert status == 78
    assert "error: manager: 'nonsense' is not HOST:PORT" in err


async def test_an_audit_prints_what_is_held(world: Bench) -> None:
    """And its status says whether anything is."""
    empty = await run("audit", "--keeper", str(world.keeper.path))
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    status, out, _ = await run("audit", "--keeper", str(world.keeper.path), "--json")

    assert empty[:2] == (0, "nothing is left\n")
    assert status == 1
    assert json.loads(out) == {"in_use": ["slot 0"], "left": []}
    assert (await world.manager.ask(release=pb.Release())).code == pb.ANSWER_CODE_DONE


async def test_an_audit_without_a_keeper_says_so(tmp_path: Path) -> None:
    """Status 69."""
    status, _, err = await run("audit", "--keeper", str(tmp_path / "keeper.sock"))

    assert status == 69
    assert err.startswith("error: no keeper at")


async def test_nothing_to_do_is_wrong_usage() -> None:
    """Status 64."""
    status, _, err = await run()

    assert status == 64
    assert "run, audit or doctor" in err


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    """The least that must be said."""
    least = {
        "manager": ["127.0.0.1:1"],
        "insecure": True,
        "token_file": folder / "token",
        "state_dir": folder,
    }
    return {**least, **changes}


def test_flags_go_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source may say a part."""
    file = tmp_path / "volunteer.toml"
    file.write_text('id = "from-file"\nprefix = "10.9.0.0/24"\nmanager = ["a:1", "b:2"]\n')
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_ID", "from-env")
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_CACHE_BYTES", "7")

    loaded = settings.load({"state_dir": tmp_path, "prefix": None}, file)

    assert (loaded.id, loaded.cache_bytes, loaded.prefix) == ("from-env", 7, "10.9.0.0/24")
    assert loaded.manager == ("a:1", "b:2")
    assert settings.load({"state_dir": tmp_path, "id": "from-flag"}, file).id == "from-flag"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"manager": []}, "at least 1 item"),
        ({"manager": ["h:0"]}, "not HOST:PORT"),
        ({"manager": ["10.0.0.5:7001"]}, "on this machine only"),
        ({"token_file": None}, "insecure needs token_file"),
        ({"insecure": False}, "token_file is for insecure"),
        (
            {"manager": ["127.0.0.1:1"], "join": "10.0.0.5:7000"},
            "join needs join_token_file and ca_fingerprint",
        ),
        ({"manager": ["h:1", "h:1"]}, "named twice"),
        ({"id": "Node A"}, "should match pattern"),
        ({"prefix": "10.0.0.1/24"}, "host bits set"),
        ({"run_dir": Path("/" + "x" * 100)}, "too long for a socket"),
        ({"mangaer": ["h:1"]}, "mangaer: there is no such setting; manager is one"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    """With the name and what is wrong with it."""
    with pytest.raises(BadSettings, match=text):
        settings.load(values(tmp_path, **changes), None)


def test_a_configuration_file_that_is_missing_is_told(tmp_path: Path) -> None:
    """It was named, so it was meant."""
    with pytest.raises(BadSettings, match="no configuration file"):
        settings.load(values(tmp_path), tmp_path / "nowhere.toml")


def test_several_managers_may_be_given() -> None:
    """Once for each."""
    assert parse(["run", "--manager", "a:1", "--manager", "b:2"]).manager == ["a:1", "b:2"]


def test_what_is_remembered_survives(tmp_path: Path) -> None:
    """Epochs and clusters, whole or not at all."""
    memory = Memory((("c1", 4), ("c2", 1)), (("m:1", "c1"),))
    path = tmp_path / "memory.json"
    first = memory_file.load(path)

    memory_file.save(path, memory)

    assert first == Memory()
    assert memory_file.load(path) == memory


@pytest.mark.parametrize("text", ["", "{}", '{"epochs": [], "clusters": {}}', '{"epochs": {"c": "x"}}'])
def test_a_damaged_memory_is_told(tmp_path: Path, text: str) -> None:
    """Fencing rests on it: it is not silently begun anew."""
    path = tmp_path / "memory.json"
    path.write_text(text)

    with pytest.raises(memory_file.MemoryDamaged, match="remove it"):
        memory_file.load(path)


def test_what_only_the_start_or_a_rare_moment_needs_is_not_loaded() -> None:
    """It would stay in memory for as long as the volunteer serves: 27 MB."""
    program = (
        "import sys; from syndicate.volunteer import serve; serve.asyncio.run = lambda life: life.close();"
        "assert serve.main([sys.argv[1]]) == 0; import syndicate.volunteer.app;"
        "print(*{'cryptography', 'pydantic', 'pydantic_settings', 'rich.console'} & set(sys.modules))"
    )
    settled = settings.load(values(Path("/nowhere")), None).encode()
    done = subprocess.run(
        [sys.executable, "-c", program, settled], timeout=60, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")


def test_settled_settings_come_through_whole() -> None:
    """From the command to the program that serves, also a name that is no text."""
    folder = Path("/nowhere/" + os.fsdecode(b"\xff"))
    told = settings.load(values(folder, manager=["127.0.0.1:1", "[::1]:2"]), None)
    assert Settled.decode(told.encode()) == told
    certified = {"manager": [], "insecure": None, "token_file": None, "tls_dir": folder}
    told = settings.load({k: v for k, v in values(folder, **certified).items() if v}, None)
    assert (Settled.decode(told.encode()), told.manager) == (told, ())
