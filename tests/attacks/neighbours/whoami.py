"""Says who it is: two slots with one user could reach each other wherever a wall has a hole."""

import os

from attacker import note

note(f"uid {os.getuid()} gid {os.getgid()} groups {os.getgroups()}")
