"""Whoever answers, at the addresses of the host, the daemons, the gateway, and of slots nearby."""

import errno
import ipaddress
import os
import select
import socket
import time

from attacker import FACTS, got_it, note

PORTS = [22, 25, 53, 80, 111, 443, 2375, 4000, 6443, 8080, 9090]
OWN = os.environ["SYNDICATE_ADDRESS"]
net = ipaddress.ip_network(OWN + "/16", strict=False)
doors = [FACTS["manager"], FACTS["volunteers"]]
ports = sorted({int(door.rpartition(":")[2]) for door in doors} | set(PORTS))
hosts = {door.rpartition(":")[0] for door in doors} | set(FACTS["host_addresses"])
hosts |= {"127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.254", "0.0.0.0", "::1", "::ffff:127.0.0.1"}
hosts |= {str(net[1]), str(net[-2]), "10.0.0.1", "172.17.0.1", "192.168.0.1", "192.168.122.1"}
nearby = {str(ipaddress.ip_address(OWN) + step) for step in range(-20, 21)} - {OWN}
nearby |= set(FACTS["bystander"].values())
tries = [(host, port) for host in sorted(hosts) for port in ports]
tries += [(host, 4000) for host in sorted(nearby)]
told = set()


def judge(host, port, error):
    """An own loopback refuses in its own name; everybody else who answers should not have been asked."""
    own = host in ("::1", "0.0.0.0", OWN) or "127." in host
    if error == 0 or (error in (errno.ECONNREFUSED, errno.ECONNRESET) and not own):
        got_it(f"{host}:{port} answers: {errno.errorcode.get(error, 'connected')}")
    else:
        told.add(errno.errorcode.get(error, error))


poll, waiting = select.poll(), {}
for host, port in tries:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    error = made.connect_ex((host, port))
    if error == errno.EINPROGRESS:
        waiting[made.fileno()] = made, host, port
        poll.register(made, select.POLLOUT)
    else:
        judge(host, port, error)
until = time.monotonic() + 1.5
while waiting and time.monotonic() < until:
    for number, _ in poll.poll(100):
        made, host, port = waiting.pop(number)
        poll.unregister(number)
        judge(host, port, made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
note(f"{len(tries)} tries, {len(waiting)} in silence, the others: {sorted(map(str, told))}")
