"""`python name_server.py NAME PRIORITY:WEIGHT:HOST:PORT… -- COMMAND…`: runs a command beside a name server.

It listens at 127.0.0.1:53 of the network that it is started in, knows the SRV records of one name and nothing
else, and ends with the command, with its status. Needs root.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


def answer(query: dns.message.Message, known: dns.rrset.RRset) -> dns.message.Message:
    """The records, or that there is no such name."""
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA
    (question,) = query.question
    if question.name == known.name and question.rdtype == dns.rdatatype.SRV:
        reply.answer.append(known)
    else:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply


def serve(door: socket.socket, known: dns.rrset.RRset) -> None:
    """Answers until the process ends."""
    while True:
        asked, who = door.recvfrom(4096)
        door.sendto(answer(dns.message.from_wire(asked), known).to_wire(), who)


def main() -> int:
    """The command's status."""
    at = sys.argv.index("--")
    name, *records = sys.argv[1:at]
    texts = ["{} {} {} {}".format(*(p, w, port, f"{host}.")) for p, w, host, port in map(split, records)]
    known = dns.rrset.from_text_list(dns.name.from_text(name), 60, "IN", "SRV", texts)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 53))
        threading.Thread(target=serve, args=(door, known), daemon=True).start()
        return subprocess.run(sys.argv[at + 1 :], check=False).returncode


def split(record: str) -> list[str]:
    """Priority, weight, host, port."""
    return record.split(":")


if __name__ == "__main__":
    sys.exit(main())
