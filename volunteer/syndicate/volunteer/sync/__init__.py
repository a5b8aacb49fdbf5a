"""A sync server: named barriers for the members of one experiment, in the protocol of emulab-sync.

`core` decides and is pure; `server` holds the sockets; `__main__` is the command `syndicate-syncd`. Nothing
here needs more than the standard library: the process is small, and stands beside the tasks of one job.
"""
