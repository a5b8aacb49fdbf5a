"""What a task sees and may do, in a real sandbox."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess

import pytest
from keeper.harness import Link, makefile, tarball
from syndicate.volunteer.local import ErrorCode, Limits, LogStream, Release, Role


async def test_root_holds_source_and_toolchain(link: Link) -> None:
    """A slave finds its Makefile in / beside the toolchain, and nothing of the host's."""
    task = link.task({"Makefile": makefile("@ls -a / && pwd", "slave"), "lab/main.c": "int x;\n"}, Role.SLAVE)

    ended, output = await task.run()

    assert ended.status == 0
    assert " ".join(output.split()) == ". .. Makefile bin dev etc lab lib lib64 proc run sbin tmp usr var /"


async def test_task_runs_as_its_own_uid_without_rights(link: Link) -> None:
    """The task has the slot's uid, no capability, and cannot gain any."""
    recipe = "@id -u; id -un; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\t'"
    _, output = await link.task({"Makefile": makefile(recipe)}, slot=1).run()

    uid, *said = output.split()
    assert int(uid) >= 200_000
    assert int(uid) % 1000 == 1  # another keeper may have the first thousand
    assert said == [
        "task",
        "CapEff:0000000000000000",
        "CapBnd:0000000000000000",
        "NoNewPrivs:1",
    ]


async def test_toolchain_cannot_be_replaced(link: Link) -> None:
    """What the skeleton brings cannot be removed, moved or overwritten; adding beside it works."""
    recipe = """
-@rm -f /bin/sh
-@mv /bin /bin2
-@rmdir /run
-@echo x > /usr/bin/x
-@echo x > /etc/hosts
@cp /usr/bin/true /bin/own && own && echo built
"""
    ended, output = await link.task({"Makefile": makefile(recipe)}).run()

    assert ended.status == 0
    assert "built" in output
    assert output.count("ignored") == 5  # make tells each refused line


async def test_loader_reads_nothing_of_a_tasks(link: Link) -> None:
    """What the loader reads while setpriv is still root cannot be written, nor brought by a source."""
    recipe = """
-@echo /evil.so > /etc/ld.so.preload
-@echo /evil.so > /etc/ld.so.cache
-@mv x /etc/ld.so.preload
@test ! -s /etc/ld.so.preload && ls -ln /etc/ld.so.preload && pwd
"""
    files = {"Makefile": makefile(recipe), "x": "/evil.so\n"}

    for source, place in ((files, "/"), ({**files, "etc/ld.so.preload": "/evil.so\n"}, "/job")):
        task = link.task(source)
        ended, output = await task.run()

        assert ended.status == 0, output
        assert output.count("ignored") == 3
        assert "-rw-r--r-- 1 0 0 0 " in output
        said = await task.output(stream=LogStream.STDOUT)
        assert said.splitlines()[-1] == place
        await task.release()


async def test_environment_and_arguments(link: Link) -> None:
    """A client gets exactly the arguments and variables that are promised, and nothing inherited."""
    recipe = "@echo args $(MASTER) $(SLAVES) flags=$(MAKEFLAGS); env | sort"
    _, output = await link.task({"Makefile": makefile(recipe, "client")}, Role.CLIENT).run()

    lines = output.splitlines()
    assert lines[0].startswith("args 10.88.0.1 10.88.0.2 flags=")
    values = dict(line.split("=", 1) for line in lines[1:])
    assert {name: value for name, value in values.items() if name.startswith("SYNDICATE")} == {
        "SYNDICATE_ADDRESS": "10.88.0.3",
        "SYNDICATE_ATTEMPT": "1",
        "SYNDICATE_CHAOS": "unix:/run/syndicate/chaos.sock",
        "SYNDICATE_CLIENTS": "10.88.0.3",
        "SYNDICATE_JOB": "7",
        "SYNDICATE_JOB_NAME": "a job's name",
        "SYNDICATE_MASTER": "10.88.0.1",
        "SYNDICATE_ROLE": "client",
        "SYNDICATE_SLAVES": "10.88.0.2",
        "SYNDICATE_TASK": "client-0",
    }
    assert (values["HOME"], values["TMPDIR"], values["LC_CTYPE"]) == ("/", "/tmp", "C.UTF-8")
    assert "VIRTUAL_ENV" not in values


async def test_output_can_be_opened_by_name(link: Link) -> None:
    """A recipe may write to /dev/stdout and /dev/stderr by their names."""
    recipe = "@echo one > /dev/stdout; echo two > /dev/stderr; cat /dev/stdin"
    ended, output = await link.task({"Makefile": makefile(recipe)}).run()

    assert (ended.status, sorted(output.split())) == (0, ["one", "two"])


async def test_names_resolve_inside(link: Link) -> None:
    """The host name is the task's, and every member is found by its name."""
    recipe = "@uname -n; getent hosts master slave-0 client-0 | tr -s ' '; wc -c < /dev/stdin"
    _, output = await link.task({"Makefile": makefile(recipe)}).run()

    assert " ".join(output.split()) == "master 10.88.0.1 master 10.88.0.2 slave-0 10.88.0.3 client-0 0"


async def test_client_imports_what_it_needs(link: Link) -> None:
    """A plain python3 in the sandbox imports grpc and the stubs."""
    program = "import grpc\nfrom syndicate.v1 import chaos_pb2_grpc\nprint('imported')\n"
    files = {"Makefile": makefile("@python3 program.py", "client"), "program.py": program}
    ended, output = await link.task(files, Role.CLIENT).run()

    assert (ended.status, output) == (0, "imported\n")


async def test_chaos_socket_is_for_clients_only(link: Link) -> None:
    """A socket that the volunteer makes at any time shows in the client's sandbox and in no other."""
    waits = {"Makefile": makefile("@ls /run/syndicate; test -S /run/syndicate/chaos.sock", "slave")}
    client_recipe = "@echo up; until [ -S /run/syndicate/chaos.sock ]; do sleep 0.01; done; ls /run/syndicate"
    slave = link.task(waits, Role.SLAVE, slot=0)
    client = link.task({"Makefile": makefile(client_recipe, "client")}, Role.CLIENT, slot=1)
    await client.begin()
    await client.said("up")

    with socket.socket(socket.AF_UNIX) as relay:
        relay.bind(str(link.keeper.run / "slots" / "1" / "chaos.sock"))
        client_exit = await client.exit()
        slave_exit, slave_output = await slave.run()

    assert client_exit.status == 0
    assert " ".join((await client.output()).split()) == "up chaos chaos.sock hosts lib passwd"
    assert slave_exit.status == 2
    assert "chaos" not in slave_output
    await client.release()
    assert os.listdir(link.keeper.run / "slots" / "1") == []


@pytest.mark.parametrize("name", ["usr/x", "tmp/x", "run/x", "dev/x", "proc/x", "sys/x", "job/x", "bin/sh"])
async def test_reserved_name_moves_source_to_job(link: Link, name: str) -> None:
    """A source with a name of the sandbox's own is laid at /job, and says so on stderr."""
    task = link.task({name: "mine", "Makefile": makefile(f"@pwd; echo $$HOME; cat {name}")})

    ended, output = await task.run()

    assert ended.status == 0
    assert "/job" in await task.output(stream=LogStream.STDERR)
    assert output.splitlines()[-3:] == ["/job", "/job", "mine"]


@pytest.mark.parametrize("prefix", ["lab/", "./lab/"])
async def test_single_folder_is_the_root(link: Link, prefix: str) -> None:
    """A tarball that wraps everything in one folder is unpacked without it, twice alike."""
    files = {
        prefix: "",
        f"{prefix}bin/tool": "#!/bin/sh\necho tool\n",
        f"{prefix}Makefile": makefile("@pwd; tool"),
    }
    task = link.task(files)

    first = await task.run()
    await task.release()
    second = await link.task(files, slot=1).run()

    assert first[1] == second[1] == "/\ntool\n"


@pytest.mark.parametrize("compress", ["gz", "plain", "zst"])
async def test_formats_by_magic(link: Link, compress: str) -> None:
    """Tarballs are known by their first bytes: gzip, zstd, or none."""
    source = tarball({"./Makefile": makefile("@echo ran"), "./": ""}, "w")
    if compress == "gz":
        source = gzip.compress(source)
    if compress == "zst":
        source = _zstd(source)

    ended, output = await link.task_of(source).run()

    assert (ended.status, output) == (0, "ran\n")


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


_GOOD = tarball({"Makefile": makefile("@echo ran"), "data": "x" * 100_000})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"this is no archive" * 100, "does not look like a tar archive"),
        (_GOOD[: len(_GOOD) // 2], "unexpected end of file"),
        (_GOOD[:-8] + bytes(8), "length error"),
        (gzip.compress(tarball({"../../escaped": "x", "Makefile": ""}, "w")), "contains '..'"),
    ],
    ids=["garbage", "truncated", "corrupted", "escaping"],
)
async def test_bad_source_is_told(link: Link, source: bytes, says: str) -> None:
    """A source that cannot be unpacked is the job's fault, is told in one line, and leaves the slot free."""
    task = link.task_of(source)

    refused = await link.refused(task.prepare_request())

    assert refused.code is ErrorCode.BAD_SOURCE
    assert says in refused.detail
    assert (await link.sync()).slots[0].task is None
    assert (await link.audit()).left == ()


async def test_missing_source_is_told(link: Link) -> None:
    """A digest that the cache does not hold is refused, with the digest."""
    task = link.task({"Makefile": ""})
    (link.keeper.cache / task.digest).unlink()

    refused = await link.refused(task.prepare_request())

    assert refused.code is ErrorCode.FAILED
    assert task.digest[:12] in refused.detail


async def test_disk_is_bounded(link: Link) -> None:
    """Writing past the disk's bound fails with ENOSPC, in / and in /tmp together."""
    recipe = """
-@head -c 6M /dev/zero > /tmp/a
-@head -c 6M /dev/zero > b
@du -sk /tmp/a b | cut -f1 | paste -sd+ | tr -d '\\n'
"""
    task = link.task({"Makefile": makefile(recipe)})
    _, output = await task.run(Limits(disk_bytes=8 << 20))

    assert "No space left on device" in output
    said = await task.output(stream=LogStream.STDOUT)
    first, second = map(int, said.splitlines()[-1].split("+"))
    assert first == 6144
    assert second < 2048


async def test_process_limit_holds(link: Link) -> None:
    """With a bound on processes a fork beyond it fails."""
    if "cgroup-pids" not in (await link.sync()).capabilities:
        pytest.fail("this machine has no pids controller: run the tests where it has")
    recipe = "@for i in $$(seq 60); do sleep 100 & done; wait"
    task = link.task({"Makefile": makefile(recipe)})

    ended, output = await task.run(Limits(disk_bytes=32 << 20, pids=20))

    assert ended.status == 2
    assert "Cannot fork" in output


async def test_release_empties_the_socket_folder(link: Link) -> None:
    """What the volunteer left in a slot's folder goes with the task."""
    task = link.task({"Makefile": makefile("@true", "client")}, Role.CLIENT)
    await task.prepare()
    leftover = link.keeper.run / "slots" / "0" / "chaos.sock"
    leftover.write_text("")

    await link.do(Release(0, task.id))

    assert not leftover.exists()
