"""A fake container engine: the part of Docker's API that conlink uses, on a unix socket.

Its containers are processes in network namespaces that the campaign made. It can answer late, in part, not at all or
with nonsense: see `Faults`.
"""

import json
import os
import random
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass, field

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"


@dataclass
class Container:
    """A process in a network namespace of its own."""

    id: str
    name: str
    labels: dict
    process: subprocess.Popen
    started_at: str
    state: str = "running"

    @property
    def pid(self):
        return self.process.pid


@dataclass
class Faults:
    """Faults. Probabilities are per answer, times in seconds."""

    # Delay before each answer.
    delay: float = 0.0
    # Delay between making and sending the list of containers.
    list_delay: float = 0.0
    # The connection is closed within the body.
    cut: float = 0.0
    # The connection is reset before the answer.
    reset: float = 0.0
    # The body is not JSON, or JSON of unexpected types.
    garbage: float = 0.0
    # Additional entries of the list.
    extra_entries: list = field(default_factory=list)
    # By container id: a function that makes a false answer to an inspection.
    inspections: dict = field(default_factory=dict)
    # False output of a command in a container, as bytes, and its exit code (None: not reported).
    output: tuple = None


class FakeEngine:
    """Listens until `close`."""

    def __init__(self, path, seed):
        self.path = path
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.containers = {}
        self.faults = Faults()
        self.requests = []
        # A real daemon keeps this number of past events.
        self.events = deque(maxlen=256)
        self.listeners = []
        self.commands = {}
        self.connections = set()
        self.server = None
        self.open()

    # ---- the daemon

    def open(self):
        """Starts to listen, like a starting daemon."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.path)
        server.listen(128)
        self.server = server
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def close(self):
        """Ends like a killed daemon: the socket file remains, all connections are closed."""
        server, self.server = self.server, None
        if server:
            # Wakes the thread that accepts.
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        self.drop_connections()

    def drop_connections(self):
        """Closes all connections, including those that wait for events."""
        with self.lock:
            connections, self.connections = self.connections, set()
            self.listeners = []
        for it in connections:
            try:
                it.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # ---- containers

    def add(self, container, tell=True):
        with self.lock:
            self.containers[container.id] = container
            if tell:
                self.tell("start", container.id)

    def remove(self, container, tell=True):
        with self.lock:
            self.containers.pop(container.id, None)
            if tell:
                self.tell("die", container.id)

    def tell(self, action, container_id):
        """Sends an event to all listening clients."""
        name = self.containers[container_id].name if container_id in self.containers else "gone"
        event = {
            "status": action, "id": container_id, "Type": "container", "Action": action, "scope": "local",
            "Actor": {"ID": container_id, "Attributes": {"name": name}}, "time": int(time.time()),
        }
        self.tell_raw(json.dumps(event).encode() + b"\n", action)

    def tell_raw(self, text, action=None):
        """Sends bytes instead of an event."""
        with self.lock:
            self.events.append((time.time(), action, text))
            self.listeners = [it for it in self.listeners if self._send_event(*it, action, text)]

    @staticmethod
    def _send_event(connection, wanted, action, text):
        if action is not None and wanted and action not in wanted:
            return True
        try:
            connection.sendall(b"%x\r\n%s\r\n" % (len(text), text))
            return True
        except OSError:
            return False

    # ---- HTTP

    def _accept(self, server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            stream = connection.makefile("rb")
            while request := self._read(stream):
                if not self._answer(connection, *request):
                    # The connection is used for events from now on.
                    return
        except (OSError, ValueError):
            pass
        with self.lock:
            self.connections.discard(connection)
        connection.close()

    @staticmethod
    def _read(stream):
        """Method, path, query and body of the next request; None at the end."""
        line = stream.readline()
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        length = 0
        while (header := stream.readline().strip()):
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = stream.read(length) if length else b""
        url = urllib.parse.urlsplit(target)
        return method, url.path, urllib.parse.parse_qs(url.query), body

    def _answer(self, connection, method, path, query, body):
        """Answers a request. Returns False if the connection must not be closed or read any more."""
        parts = [it for it in path.split("/") if it]
        if parts and parts[0].startswith("v1."):
            parts = parts[1:]
        with self.lock:
            faults = self.faults
            self.requests.append((time.time(), method, path))
            reset = self.random.random() < faults.reset
        if faults.delay:
            time.sleep(faults.delay)
        if parts != ["_ping"] and reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise OSError("reset")
        if parts == ["_ping"]:
            self._send(connection, "200 OK", b"OK")
        elif parts == ["version"]:
            self._send_json(connection, {"Version": "0", "ApiVersion": "1.43", "MinAPIVersion": "1.12"})
        elif parts == ["events"]:
            self._listen(connection, query)
            return False
        elif parts == ["containers", "json"]:
            answer = self._list(query)
            time.sleep(faults.list_delay)
            self._send_json(connection, answer)
        elif len(parts) == 3 and parts[0] == "containers" and parts[2] == "json":
            answer = self._inspect(parts[1])
            if answer is None:
                self._send_json(connection, {"message": f"No such container: {parts[1]}"}, "404 Not Found")
            else:
                self._send_json(connection, answer)
        elif len(parts) == 3 and parts[0] == "containers" and parts[2] == "exec":
            self._send_json(connection, self._create_command(parts[1], json.loads(body)), "201 Created")
        elif len(parts) == 3 and parts[0] == "exec" and parts[2] == "start":
            self._run_command(connection, parts[1])
            raise OSError("a stream ends with its connection")
        elif len(parts) == 3 and parts[0] == "exec" and parts[2] == "json":
            self._send_json(connection, {"ID": parts[1], "Running": False, "ExitCode": self.commands[parts[1]]["code"]})
        else:
            self._send_json(connection, {"message": "page not found"}, "404 Not Found")
        return True

    def _send_json(self, connection, value, status="200 OK"):
        with self.lock:
            if self.random.random() < self.faults.garbage:
                body = garbage(self.random, value)
            else:
                body = json.dumps(value).encode()
        self._send(connection, status, body)

    def _send(self, connection, status, body):
        with self.lock:
            cut = self.random.random() < self.faults.cut
            kept = self.random.randrange(len(body) + 1) if cut else len(body)
        head = f"HTTP/1.1 {status}\r\nApi-Version: 1.43\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:kept])
        if cut:
            connection.shutdown(socket.SHUT_RDWR)
            raise OSError("cut")

    def _list(self, query):
        states = json.loads(query.get("filters", ["{}"])[0]).get("status")
        if isinstance(states, dict):
            states = list(states)
        with self.lock:
            entries = [
                {"Id": it.id, "Names": [f"/{it.name}"], "State": it.state, "Labels": it.labels}
                for it in self.containers.values() if not states or it.state in states
            ]
            # Before, between and after the real ones.
            for it in self.faults.extra_entries:
                entries.insert(self.random.randrange(len(entries) + 1), it)
            return entries

    def _inspect(self, container_id):
        with self.lock:
            it = self.containers.get(container_id)
            truth = it and {
                "Id": it.id, "Name": f"/{it.name}", "Config": {"Labels": it.labels},
                "State": {"Running": True, "Paused": it.state == "paused", "Status": it.state, "Pid": it.pid,
                          "StartedAt": it.started_at},
                "HostConfig": {"NetworkMode": "none"},
            }
            fault = self.faults.inspections.get(container_id)
        return fault(truth) if fault else truth

    def _listen(self, connection, query):
        """Sends the events since the requested time, and then new ones."""
        since = float(query.get("since", ["0"])[0])
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("event", [])
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.lock:
            connection.sendall(head)
            for at, action, text in self.events:
                if at >= since:
                    self._send_event(connection, list(wanted), action, text)
            self.listeners.append((connection, list(wanted)))

    def _create_command(self, container_id, request):
        with self.lock:
            number = f"{len(self.commands):064x}"
            self.commands[number] = {"container": self.containers[container_id], "argv": request["Cmd"], "code": None}
        return {"Id": number}

    def _run_command(self, connection, number):
        """Runs the command in its container's network and sends its output in Docker's frames."""
        command = self.commands[number]
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
                           b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        if self.faults.output is not None:
            output, command["code"] = self.faults.output
        else:
            argv = ["nsenter", f"--net=/proc/{command['container'].pid}/ns/net", "--", *command["argv"]]
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            output, command["code"] = done.stdout, done.returncode
        for start in range(0, len(output), 32768):
            piece = output[start:start + 32768]
            connection.sendall(struct.pack(">BxxxI", 1, len(piece)) + piece)


def garbage(rng, value):
    """Invalid bytes in place of `value`: not JSON, or with one value replaced by another type."""
    if rng.random() < 0.2:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    return json.dumps(_replaced(rng, value)).encode()


def _replaced(rng, value):
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        return {**value, key: _replaced(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], _replaced(rng, value[index]), *value[index + 1:]]
    # A wrong value of the right type cannot be detected.
    others = [{"a": [{}]}, [[], {}], -1, 1.5, 2 ** 70, True, "x" * 100_000, "\x00\n\x1b[2J", [None]]
    return rng.choice([it for it in others if type(it) is not type(value)])


def hostile_names(rng, mark):
    """Entries with the right types and hostile values. A line of the log must not begin with `mark`."""
    nasty = [
        f"x\n{mark} All links connected", f"x\r{mark}", f"\x1b]0;{mark}\x07", "\x00", "", "/", "../../etc", "n" * 100_000,
        "conlink:campaign::lan", "a b", "%s%n", "\u2028" + mark, "\u202e", "{{index}}", "é" * 300,
    ]
    entries = []
    for number in range(rng.randrange(5, 30)):
        name = rng.choice(nasty)
        labels = {
            PROJECT_LABEL: rng.choice(["campaign", "other", *nasty]),
            SERVICE_LABEL: rng.choice(["h", "nobody", *nasty]),
            NUMBER_LABEL: rng.choice(["1", "0", "-1", "4294967295", "99999999999999999999", "x", ""]),
        }
        entries.append({
            "Id": rng.choice([f"{number:064x}", "", "/", "a" * 5000, f"..%2f{number}", "\n"]),
            "Names": rng.choice([[f"/{name}"], [], None, [f"/{name}"] * 500]),
            "Labels": rng.choice([labels, labels, None, {}]),
            "State": rng.choice(["running", None, "dead"]),
        })
    return entries
