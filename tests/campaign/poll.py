"""Asks conlink for its status, again and again, until everything is connected; prints how long each answer took, in
milliseconds, as a JSON list.

usage: poll.py SOCKET SECONDS
"""

import json
import socket
import sys
import time


def main():
    path, limit = sys.argv[1], time.monotonic() + float(sys.argv[2])
    times, state = [], None
    while state != "connected" and time.monotonic() < limit:
        begin = time.monotonic()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(path)
                connection.sendall(b'{"request":"status"}\n')
                answer = b""
                while part := connection.recv(1 << 20):
                    answer += part
        except OSError:
            # The engine does not listen yet.
            time.sleep(0.001)
            continue
        times.append((time.monotonic() - begin) * 1e3)
        status = json.loads(answer)
        # Before the first list there are no containers, which counts as connected.
        state = status["state"] if status["listening"] else None
    print(json.dumps(times))


main()
