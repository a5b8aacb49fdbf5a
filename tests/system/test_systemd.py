"""Services of a machine that a real systemd has booted: installed, restarted, rebooted, taken away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cluster
from tests.support.booted import ADMIN, BIN, Machine, base_archive, engine, make_image, software, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("dockerd", "debootstrap")),
        reason="needs docker.io and debootstrap",
    ),
    pytest.mark.timeout(2400),  # the first test may have to make the base image
]

JOBS = Path(__file__).with_name("jobs")
UNITS = ("syndicate-manager", "syndicate-keeper", "syndicate-volunteer")
SLOTS = "--slots=3"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine has at /opt/syndicate."""
    return software(tmp_path_factory.mktemp("software"))


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[Any]:
    """Boots machines, of the base or of another image; all of them are gone afterwards."""
    folder = tmp_path_factory.mktemp("engine")
    with engine(folder) as address:
        image = make_image(address)
        machines: list[Machine] = []

        def start(archive: Path | None = None, beside: str = "") -> Machine:
            own = image if archive is None else make_image(address, archive)
            machines.append(Machine(address, own, programs, beside))
            machines[-1].start()
            return machines[-1]

        try:
            yield start
        finally:
            for machine in machines:
                machine.remove()


@pytest.fixture(scope="module")
def machine(boot: Any) -> Machine:
    """Manager and volunteer on one machine, by two commands, with three slots ready."""
    made: Machine = boot()
    made.run(f"{BIN}/syndicatectl", "install", "manager")
    until("the manager", lambda: made.show("syndicate-manager", "ActiveState") == "active")
    made.install_volunteer(SLOTS)
    until_ready(made)
    made.copy(JOBS, "/root/jobs")
    return made


def is_free(node: dict[str, Any]) -> bool:
    """Whether all of its slots stand empty."""
    return [slot["job_id"] for slot in node["slots"]] == [0, 0, 0]


def until_ready(machine: Machine) -> dict[str, Any]:
    """The volunteer, once it is ready with all slots free."""

    def ready() -> dict[str, Any] | None:
        ended = machine.run(f"{BIN}/syndicatectl", *ADMIN, "nodes", "--json", check=False)
        try:
            nodes = json.loads(ended)["nodes"]
        except (ValueError, KeyError):
            return None
        return next((one for one in nodes if one["state"] == "ready" and is_free(one)), None)

    found: dict[str, Any] = until("the volunteer", ready)
    return found


def submit(machine: Machine, job: str, *more: str) -> str:
    """A job's id."""
    return str(machine.json("submit", f"/root/jobs/{job}", *more)["job_id"])


def until_said(machine: Machine, job: str, task: str, line: str) -> None:
    """Waits until a task has written a line."""
    command = (f"{BIN}/syndicatectl", *ADMIN, "logs", job, "--task", task)
    until(f"{line!r} of {task}", lambda: line in machine.run(*command, check=False))


def ended(machine: Machine, job: str) -> dict[str, Any]:
    """The job, once it has ended."""

    def over() -> dict[str, Any] | None:
        shown: dict[str, Any] = machine.json("show", job)
        return shown if shown["state"] in ("succeeded", "failed", "lost", "unknown", "cancelled") else None

    found: dict[str, Any] = until(f"the end of job {job}", over)
    return found


def test_a_second_install_changes_nothing(machine: Machine) -> None:
    """Neither with the same options nor without any; and it says so."""
    again = machine.run(f"{BIN}/syndicatectl", "install", "manager")
    bare = machine.run(f"{BIN}/syndicatectl", "install", "volunteer")
    other = machine.run(f"{BIN}/syndicatectl", "install", "volunteer", "--manager=10.9.9.9:7001", check=False)
    assert again == bare == "it is installed already; nothing was changed\n"
    assert "keeper.toml is there, and says something else" in other and "Nothing was changed." in other
    assert [machine.show(unit, "ActiveState") for unit in UNITS] == ["active"] * 3


def test_services_run_as_they_should(machine: Machine) -> None:
    """Each by its own user, watched by a watchdog, with its cgroup delegated where tasks are."""
    assert [machine.show(unit, "User") for unit in UNITS] == ["syndicate", "", "syndicate-volunteer"]
    assert [machine.show(unit, "WatchdogUSec") for unit in UNITS] == ["1min"] * 3
    assert all(int(machine.show(unit, "WatchdogTimestampMonotonic")) > 0 for unit in UNITS)
    own = machine.show("syndicate-keeper", "ControlGroup")
    pid = machine.show("syndicate-keeper", "MainPID")
    assert f"0::{own}/keeper\n" in machine.run("cat", f"/proc/{pid}/cgroup")
    # Those of the whole host are seen here: others come and go while they are looked through.
    look = f"find /sys/fs/cgroup -ignore_readdir_race -path '*{own}/syndicate-syn/slot-0' 2>/dev/null || true"
    assert machine.run("sh", "-c", look) != ""


def test_a_service_can_do_what_its_machine_can(machine: Machine) -> None:
    """What the keeper's unit takes from it is none of the faults, nor of what doctor finds on the machine."""
    alone = json.loads(machine.run(f"{BIN}/syndicate-volunteer", "doctor", "--json", check=False))
    node = until_ready(machine)
    said = machine.run("journalctl", "-u", "syndicate-keeper", "-o", "cat").splitlines()
    lacking = {one["name"] for one in alone if one["level"] != "ok"}
    assert {line.split(":")[1].strip() for line in said if line.startswith("syndicate-keeper: ")} <= lacking
    assert {f"fault-{one['capability']}" for one in node["cannot"]} <= lacking


def test_the_journal_has_fields(machine: Machine) -> None:
    """What goes to systemd's journal is JSON, without being told."""

    def told() -> list[dict[str, Any]]:
        lines = machine.run("journalctl", "-u", "syndicate-volunteer", "-o", "cat").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    until("its words", lambda: {"join.done", "keeper.up", "link.up"} <= {line["event"] for line in told()})
    assert {line["volunteer_id"] for line in told()} == {"node-a"}


def test_a_wrong_setting_is_told_with_its_line_until_it_is_mended(machine: Machine) -> None:
    """The service ends with 78 and is tried again; the journal has file, line and key."""
    until_ready(machine)
    file, unit = "/etc/syndicate/volunteer.toml", "syndicate-volunteer"
    line = len(machine.run("cat", file).splitlines()) + 1
    machine.run("sh", "-c", f"cat >>{file}", text="cache_bytes = 0\n")
    machine.run("systemctl", "restart", unit, check=False)
    until("its end", lambda: machine.show(unit, "ExecMainStatus") == "78")
    said = f"error: {file}:{line}: cache_bytes: "
    until("its word", lambda: said in machine.run("journalctl", "-u", unit, "-o", "cat", "-n", "200"))
    machine.run("sed", "-i", f"{line}d", file)
    until("its return", lambda: machine.show(unit, "ActiveState") == "active")
    until_ready(machine)


DOCTORED = (
    *("root", "kernel", "overlayfs", "netns", "nft_ingress", "nft_egress", "cgroup", "bwrap", "addresses"),
    *("mtu", "clock", "manager", "certificate", "open-files"),
)


def test_doctor_looks_at_all_that_a_volunteer_needs(machine: Machine) -> None:
    """By what is installed, and all is well: also the way to the manager, its identity and its clock."""
    assert_well(machine, DOCTORED, f"{BIN}/syndicate-volunteer", "doctor", "--json")


def test_doctor_of_users_has_the_manager_beside_it(machine: Machine) -> None:
    """All of the above, and whether the manager answers its users, has volunteers, and their time."""
    until_ready(machine)
    names = (*DOCTORED, "users", "users-clock", "volunteers")
    assert_well(machine, names, f"{BIN}/syndicatectl", *ADMIN, "doctor", "--json")


def assert_well(machine: Machine, names: tuple[str, ...], *doctor: str) -> None:
    """It finds all of these well, and ends so.

    It gives a manager five seconds, which may stand still for as long: so there are three tries.
    """

    def amiss() -> str:
        """Empty, or what it said."""
        try:
            found = json.loads(machine.run(*doctor))
        except AssertionError as error:
            return str(error)
        levels = {one["name"]: one["level"] for one in found}
        return "" if all(levels.get(name) == "ok" for name in names) else json.dumps(found)

    tries: list[str] = []
    while (said := amiss()) and len(tries) < 2:
        tries.append(said)
    assert not said, [*tries, said]


def test_a_restart_of_the_volunteer_touches_no_task(machine: Machine) -> None:
    """The job goes on, and its slave is killed and revived with its disk before, meanwhile and after."""
    until_ready(machine)
    job = submit(machine, "disk", "--machines=2", "--client=/root/jobs/restart-client")
    until_said(machine, job, "client-0", "go")
    machine.run("systemctl", "restart", "syndicate-volunteer")
    result = ended(machine, job)
    master = next(task for task in result["tasks"] if task["ref"]["task"] == "master")
    assert (result["state"], result["attempt"], len(master["runs"])) == ("succeeded", 1, 1), result


def test_a_manager_that_was_away_is_found_again(machine: Machine) -> None:
    """The volunteer waits for it, and tasks run on as if nothing had been."""
    until_ready(machine)
    pid = machine.show("syndicate-volunteer", "MainPID")
    job = submit(machine, "counter", "--machines=2")
    until_said(machine, job, "master", "line 20")
    machine.run("systemctl", "stop", "syndicate-manager")
    machine.run("systemctl", "start", "syndicate-manager")
    result = ended(machine, job)
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7] and result["attempt"] == 1
    until_ready(machine)
    assert machine.show("syndicate-volunteer", "MainPID") == pid


def test_a_keeper_that_hangs_is_ended_with_its_tasks(machine: Machine) -> None:
    """As by its watchdog; nothing of a task outlives its keeper, and the job is started again."""
    until_ready(machine)
    job = submit(machine, "again", "--machines=2")
    until_said(machine, job, "master", "attempt 1")
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=ABRT", "syndicate-keeper")
    result = ended(machine, job)
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7] and result["attempt"] == 2
    until_ready(machine)


def test_a_volunteer_that_hangs_is_started_again(machine: Machine) -> None:
    """Its watchdog hears nothing of it, within two seconds here; the task that it has goes on."""
    until_ready(machine)
    unit = "syndicate-volunteer"
    folder = f"/run/systemd/system/{unit}.service.d"
    sooner = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n"
    machine.run("sh", "-c", f"mkdir {folder} && cat >{folder}/sooner.conf", text=sooner)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", unit)
    until_ready(machine)
    job = submit(machine, "counter", "--machines=2")
    until_said(machine, job, "master", "line 20")
    pid = until("its hanging", lambda: stopped(machine, unit))
    until("its end", lambda: machine.show(unit, "MainPID") not in (pid, "0"))
    result = ended(machine, job)
    machine.run("rm", "-r", folder)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", unit)  # one that runs keeps the time that it was started with
    until_ready(machine)
    told = ("journalctl", "-u", unit, "--grep=Watchdog", "-o", "cat")
    until("its word", lambda: "watchdog" in machine.run(*told, check=False).lower())
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7] and result["attempt"] == 1


def stopped(machine: Machine, unit: str) -> str:
    """The process of a unit, which stands still from now on; none where it was just started again.

    Where the whole machine stood still for two seconds its watchdog has ended the one before.
    """
    pid = machine.show(unit, "MainPID")
    return "" if pid == "0" or machine.run("sh", "-c", f"kill -STOP {pid}", check=False) else pid


@pytest.mark.parametrize("orderly", [True, False], ids=["halted", "power cut"])
def test_a_machine_that_reboots_comes_back(machine: Machine, orderly: bool) -> None:
    """By itself and as a new boot; the job that it had starts again."""
    before = until_ready(machine)
    job = submit(machine, "again", "--machines=2")
    until_said(machine, job, "master", "attempt 1")
    machine.reboot(orderly=orderly)
    after = until_ready_or_busy(machine)
    result = ended(machine, job)
    assert before["boot_id"] != after["boot_id"]
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7] and result["attempt"] == 2


def test_a_machine_is_booted_again_after_each_job(boot: Any) -> None:
    """Once one has left it, it is worn and takes none; when the other has, it boots and takes the next."""
    fresh: Machine = boot()
    fresh.run(f"{BIN}/syndicatectl", "install", "manager")
    until("the manager", lambda: fresh.show("syndicate-manager", "ActiveState") == "active")
    fresh.install_volunteer(SLOTS, "--after-job=reboot")
    fresh.copy(JOBS, "/root/jobs")
    before = until_ready(fresh)
    stays, first = submit(fresh, "idle", "--machines=2"), submit(fresh, "counter", "--machines=1")
    shown = ended(fresh, first)
    until("its wear", lambda: fresh.json("nodes")["nodes"][0]["state"] == "worn")
    second = submit(fresh, "idle", "--machines=1")
    fresh.ctl("cancel", stays, check=False)  # the machine may go down before the command has ended
    fresh.boots_again()
    until_said(fresh, second, "master", "up")
    (node,) = fresh.json("nodes")["nodes"]

    assert [task["exit"]["recipe_status"] for task in shown["tasks"]] == [7] and shown["attempt"] == 1
    assert (before["state"], node["state"]) == ("ready", "ready") and before["boot_id"] != node["boot_id"]


def until_ready_or_busy(machine: Machine) -> dict[str, Any]:
    """The volunteer, once the manager has heard of it since the reboot."""
    until("the services", lambda: [machine.show(unit, "ActiveState") for unit in UNITS] == ["active"] * 3)
    return until_ready(machine)


def made_image(folder: Path, programs: Path, *words: str, token: str) -> Path:
    """An image of a machine into which a volunteer was installed while nothing of it ran, as an archive."""
    root, archive = folder / "root", folder / "image.tar"
    root.mkdir()
    subprocess.run(["tar", "-C", str(root), "-xf", str(base_archive())], check=True, timeout=300)
    shutil.copytree(programs, root / "opt/syndicate", symlinks=True)
    install = [str(cluster.BIN / "syndicatectl"), "install", "volunteer", "--root", str(root)]
    install += ["--bin", BIN, "--join-token-file=-", *words]
    subprocess.run(install, input=token, text=True, check=True, timeout=300, capture_output=True)
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True, timeout=300)
    shutil.rmtree(root)
    return archive


def test_an_image_with_the_units_enabled_needs_no_further_step(
    boot: Any, programs: Path, tmp_path: Path
) -> None:
    """It boots for the first time, registers under its host's name, and runs a job."""
    manager: Machine = boot()
    manager.run(f"{BIN}/syndicatectl", "install", "manager")
    until("the manager", lambda: manager.show("syndicate-manager", "ActiveState") == "active")
    made = manager.json("join-token", "create", "--uses=1", "--ttl=1h")
    words = ("--manager=127.0.0.1:7001", "--slots=3", f"--ca-fingerprint={made['ca_fingerprint']}")
    boot(made_image(tmp_path, programs, *words, token=made["token"]), manager.name)

    node = until_ready(manager)
    manager.copy(JOBS, "/root/jobs")
    result = ended(manager, submit(manager, "counter", "--machines=2"))

    assert node["volunteer_id"] == manager.run("hostname").strip()
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7] and result["attempt"] == 1


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("syndicate-manager", 3.0),
        ("syndicate-volunteer", 3.0),
        # What docs/operating.md says of it; the unit gives the reason of each exemption.
        ("syndicate-keeper", 5.8),
    ],
)
def test_services_may_do_little(machine: Machine, unit: str, most: float) -> None:
    """As the systemd that runs them marks them, from 0 to 10."""
    said = machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None and float(found[1]) <= most, said


# What any boot writes, or any night, whoever is installed.
_OF_SYSTEMD = (
    *("/run/systemd", "/run/udev", "/run/dbus", "/run/log", "/run/lock", "/var/log", "/var/lib/systemd"),
    *("/var/backups", "/tmp", "/var/tmp", "/dev", "/proc", "/sys"),
)


def files_of(machine: Machine) -> set[str]:
    """All of the machine's files and folders, but those of systemd's own work."""
    prune = " -o ".join(f"-path {folder}" for folder in _OF_SYSTEMD)
    # A file that is replaced while it looks is no error.
    find = f"find / /run -ignore_readdir_race -xdev \\( {prune} \\) -prune -o -print"
    return set(machine.run("sh", "-c", find).splitlines())


def test_uninstall_takes_all_away(boot: Any) -> None:
    """Every file of the machine is as before, and every user; and a second run says so."""
    spare: Machine = boot()
    users = ("cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
    before, who = files_of(spare), spare.run(*users)
    spare.run(f"{BIN}/syndicatectl", "install", "manager")
    spare.install_volunteer(SLOTS)
    until("the keeper", lambda: spare.show("syndicate-keeper", "ActiveState") == "active")
    assert {"/etc/syndicate/keeper.toml", "/run/syndicate/keeper.sock"} <= files_of(spare)
    for part in ("volunteer", "manager"):
        spare.run(f"{BIN}/syndicatectl", "uninstall", part, "--purge", "--yes")
    # Keepers of other names may hold locks in these two; they are gone with the next boot.
    left = {"/run/syndicate-instances", "/run/syndicate-uids"}
    assert files_of(spare) ^ before == left
    assert spare.run(*users) == who
    units = spare.run("systemctl", "list-unit-files", "syndicate-*", "--no-legend", check=False)
    assert units == ""
    again = spare.run(f"{BIN}/syndicatectl", "uninstall", "volunteer")
    assert again == "it is not installed; nothing was changed\n"
