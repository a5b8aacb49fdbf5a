"""The least that a Python process takes to answer as many clients: blocking calls, no epoll, no barrier.

`barrier_floor N`: takes N requests at a time, then answers and ends each connection. Prints its port.
"""

from __future__ import annotations

import socket
import sys

from syndicate.volunteer.sync.descriptors import raise_limit


def main() -> None:
    """Serves until it is ended."""
    size = int(sys.argv[1])
    raise_limit()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(65_535)
        print(listening.getsockname()[1], flush=True)
        while True:
            peers = []
            for _ in range(size):
                peer, _ = listening.accept()
                peer.recv(76)
                peers.append(peer)
            for peer in peers:
                peer.send(bytes(4), socket.MSG_MORE)
                peer.close()


if __name__ == "__main__":
    main()
