"""What ``syndicate-manager --help`` says beside its options."""

from __future__ import annotations

import argparse
from typing import Final

DESCRIPTION: Final = """\
Queues jobs, gives them slots on volunteers, and keeps what became of them.

Users reach it on one address, volunteers on another, both by TLS. Users send
tokens: STATE_DIR/admin.token, which it makes at its first start, is that of
its first user, an admin. Volunteers show certificates (syndicate-manager
certs). SIGTERM stops it; jobs run on, and the next start takes them up again."""

EPILOG: Final = """\
settings:
  Flags go before the environment, the environment before the file, the file
  before the defaults. A setting's name in the environment begins with
  SYNDICATE_MANAGER_ (SYNDICATE_MANAGER_STATE_DIR); in the file it is its own
  (state_dir = "/var/lib/syndicate"). These have no option:

  max_source_bytes       largest source; 10485760
  upload_timeout_s       longest upload; 300
  log_cap_bytes          kept of one task's output; 67108864
  history_bytes          largest history that a client hands over; 67108864
  history_job_bytes      of those of one attempt of a job; 268435456
  history_all_bytes      of all, those of the oldest jobs go; 8589934592
  disk_bytes             kept of one task's disk (--keep-disks); 67108864
  disk_job_bytes         of the disks of one job; 536870912
  disk_all_bytes         of all disks, the oldest go; 8589934592
  default_time_limit_s   of a job that asks for none; 600
  max_time_limit_s       that a job may ask for; 86400
  max_attempts           tries of a job whose machines fail; 3
  max_queued             jobs that may wait; 100000
  max_slots_per_job      members of a job; 1000
  keep_ended             ended jobs in memory, others are read from disk; 1000
  keep_jobs              ended jobs on disk, older ones are removed; 100000
  keep_audit             lines of the audit log, older are removed; 1000000
  prefixes               where slots get their networks from; 10.77.0.0/16
  heartbeat_interval_s   between two words of a volunteer; 5
  orphan_after_s         until a volunteer that is cut off ends its tasks; 30
  lost_after_s           until a silent volunteer counts as lost; 40
  forget_after_s         until one that is lost is forgotten; 259200
  stop_grace_s           for calls under way at SIGTERM; 3
  publish_client_logs    students see what clients print; false
  token_ttl_s            of a token that asks for no other; 15552000
  user_calls_per_s       of a student, staff ten times, admins any; 50
  user_calls_burst       that come at once, the same; 500
  user_changes_per_day   calls that may change something, the same; 5000
  user_streams           open at a time, the same; 64
  user_uploads           at a time, the same; 4
  user_upload_bytes_per_s  that come faster are slowed down; 33554432
  user_upload_bytes_per_day  of sources that were not known; 2147483648
  student_quota          of a student of whom nothing else is said; -1 is no
                         bound: running_jobs -1, queued_jobs 20,
                         submissions_per_day 500, machines -1
  staff_quota            of staff; the same, queued_jobs and
                         submissions_per_day -1
  team_quota             of a team; the same
  limits                 of each task whose job asks for none (in the
                         environment SYNDICATE_MANAGER_LIMITS__DISK_BYTES);
                         0 is no bound:
                         memory_bytes 536870912, cpu_millis 0, pids 512,
                         disk_bytes 268435456, disk_inodes 100000,
                         open_files 4096, file_bytes 0,
                         log_head_bytes 8388608, log_tail_bytes 1048576
  max_limits             that a job may ask for; 0 is no maximum:
                         memory_bytes 8589934592, cpu_millis 0, pids 4096,
                         disk_bytes 4294967296, disk_inodes 1000000,
                         open_files 16384, file_bytes 0,
                         log_head_bytes 33554432, log_tail_bytes 8388608

exit status:
     0  stopped as asked
    64  wrong usage
    65  the default client's source is bad
    69  an address cannot be listened on
    70  the manager found itself wrong; the story is in its log
    74  the state directory cannot be read or written
    75  another manager runs on it
    78  settings that make no sense, no certificates, or a newer database"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves the texts as they are, and gives an option and its help one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)
