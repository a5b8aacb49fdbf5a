"""Writes to what the kernel takes from root through /proc, none of which does harm."""

import glob
import os
import stat

from attacker import attempt, got_it

SETTINGS = (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname"),
    *(
        "/proc/sys/kernel/printk_ratelimit_burst",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/drop_caches",
    ),
    *("/proc/sys/fs/file-max", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/disable_ipv6"),
    *("/proc/sys/kernel/randomize_va_space", "/proc/sys/user/max_user_namespaces", "/proc/sysrq-trigger"),
    *("/proc/1/oom_score_adj", "/proc/1/mem", "/proc/mtrr", "/proc/kcore", "/proc/kmsg", "/proc/kpageflags"),
    *("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs", "/proc/bus/pci/devices"),
    *(
        "/proc/fs/xfs",
        "/proc/acpi/wakeup",
        "/proc/scsi/scsi",
        "/proc/timer_list",
        "/proc/irq/default_smp_affinity",
    ),
)

for path in (*SETTINGS, *glob.glob("/proc/irq/*/smp_affinity")[:4]):
    held = attempt(path, os.open, path, os.O_WRONLY)
    if held is not None:
        got_it(f"{path} is open for writing")
        os.close(held)
BURST = "/proc/sys/kernel/printk_ratelimit_burst"  # harmless, and no namespace has one of its own
value = int(open(BURST).read())
if attempt(f"write {BURST}", lambda: open(BURST, "w").write(str(value + 1))) is not None:
    got_it(f"{BURST} is {value + 1}")
try:  # what the kernel tells root only
    addresses = {line.split()[0] for line in open("/proc/kallsyms")}
except OSError:
    addresses = set()
if addresses - {"0" * 16}:
    got_it("the kernel's addresses")
for device in (
    "/dev/mem",
    "/dev/kmem",
    "/dev/kmsg",
    "/dev/vda",
    "/dev/sda",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/vsock",
):
    if attempt(device, os.open, device, os.O_RDONLY) is not None:
        got_it(f"{device} is open")
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    node = f"/tmp/node-{kind}"
    if attempt("mknod", lambda kind=kind, node=node: os.mknod(node, kind | 0o666, os.makedev(1, 1)) or True):
        got_it(f"made a device node of kind {kind:o}")
