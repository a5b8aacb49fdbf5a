"""What ``syndicate-keeper --help`` says. By hand: what is made of the settings names types, not meanings."""

from __future__ import annotations

from typing import Final

HELP: Final = """\
usage: syndicate-keeper --instance NAME --run-dir DIR --state-dir DIR
                        --volunteer-uid UID [OPTIONS]

Owns what tasks need of this machine: namespaces, networks, mounts, cgroups,
starting and killing. Runs as root beside a volunteer, which has no rights and
asks for it over a socket. SIGTERM ends all tasks and removes all of it; the
start after a crash does so too.

options:
  -h, --help             show this help message and exit
  --version              print the version and exit
  --instance NAME        this volunteer's name on its host, 1 to 6 of a-z, 0-9
                         (required)
  --run-dir DIR          for sockets; only the volunteer may enter it (required)
  --state-dir DIR        for disks and logs of tasks, and a skeleton
                         (required)
  --volunteer-uid UID    who may connect, besides root, or its name
                         (required)
  --cache-dir DIR        where the volunteer keeps sources, by digest; default
                         STATE_DIR/cache
  --slots N              how many tasks at a time, 1 to 1000; default 1
  --uid-base UID         slot n runs as this uid plus n; default the first
                         thousand from 200000 on that no user and no other
                         keeper has
  --delegated            make cgroups in its own one, which systemd delegates
                         to it (Delegate=), not at the top
  --after-job WHAT       keep (default) or reboot: boot the machine again, by
                         systemd, each time that a job has left it
  --unsafe               start although this machine cannot isolate tasks as it
                         should: they can then harm it and each other
  --root-fs DIR          the root file system whose /usr tasks see; default /
  --pack-bytes N         largest disk of a task that is handed over when its job
                         ends, packed; default 67108864
  --pack-s N             seconds that packing and handing it over may take, up
                         to 25; default 20
  --config FILE          settings in TOML, see below

network:
  --network KIND         fabric: a network of its own for each slot (default);
                         host: the host's, for one slot, which isolates less
  --address IP           the host's address (host only, and required there)
  --uplink DEVICE        the device that must have it (host only)
  --never-cut IP,IP      addresses that no fault may cut, such as the manager's
                         (host only)

settings:
  Flags go before the environment, the environment before the file. A setting's
  name in the environment begins with SYNDICATE_KEEPER_, as in
  SYNDICATE_KEEPER_SLOTS; in the file it is its own (slots = 4).

exit status:
     0  stopped as asked
     1  it failed; the last line of its log says why
     2  wrong usage
    78  a setting that makes no sense, or something that this machine lacks:
        syndicate-volunteer doctor tells what, and the command that mends it
"""
