"""The environment of a round: a fake container engine, containers, conlink, and the kernel's state.

Nothing here is taken from what conlink says of itself but `status` and `healthcheck`: the rest is read with `ip`,
`bridge`, `tc` and `nft`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from fake_engine import NUMBER_LABEL, PROJECT_LABEL, SERVICE_LABEL, Container, FakeEngine

PROJECT = "campaign"
RUN = Path("/run/conlink")
BRIDGES = f"/run/netns/conlink-{PROJECT}"
# Seconds until a killed engine's work is adopted, a failure of the past is tried again or a container is wired.
PATIENCE = 15.0
# The beginnings of the project's marks and of its routes.
MARK = f"conlink:{PROJECT}:"
ROUTE_PROTOCOL = "194"


class Failed(Exception):
    """A round cannot continue."""


def run(command, netns=None, check=True, stdin=None, timeout=120):
    """Runs a command in the network namespace of that file, and returns its output."""
    argv = command.split() if isinstance(command, str) else list(command)
    if netns:
        argv = ["nsenter", f"--net={netns}", "--", *argv]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def features():
    """The kernel features that links need."""
    probes = {
        "netem": "tc qdisc add dev probe0 root netem delay 1ms",
        "tbf": "tc qdisc add dev probe0 root tbf rate 1mbit burst 10k latency 1ms",
        "vlan": "ip link add link probe0 name probe2 type vlan id 5",
        "macvlan": "ip link add link probe0 name probe2 type macvlan mode bridge",
        "vxlan": "ip link add probe2 type vxlan id 5 remote 192.0.2.1 dstport 4789",
        "nft": "nft 'add table inet probe; add chain inet probe c { type nat hook prerouting priority 0; }'",
        "ethtool": "ethtool -K probe0 tx off",
        "redirect": "tc qdisc add dev probe1 ingress && tc filter add dev probe1 ingress protocol all matchall"
                    " action mirred egress redirect dev probe0",
        "redirect-by-u32": "tc qdisc replace dev probe1 ingress && tc filter add dev probe1 ingress protocol all"
                           " u32 match u32 0 0 action mirred egress redirect dev probe0",
    }
    script = "ip link add probe0 type veth peer name probe1 && ip link set probe0 up\n"
    for name, probe in probes.items():
        script += f"({probe}) >/dev/null 2>&1 && echo {name}; ip link del probe2 2>/dev/null\n"
    found = set(run(["unshare", "--net", "sh", "-c", script], check=False).split())
    if found & {"redirect", "redirect-by-u32"}:
        found.add("patch")
    return found


def until(seconds, condition, pause=0.005):
    """Is the condition met within this time in seconds? A try that began in time counts."""
    end = time.monotonic() + seconds
    while True:
        begin = time.monotonic()
        if condition():
            return True
        if begin >= end:
            return False
        time.sleep(pause)


# ---- the kernel's state

def look(netns):
    """The state of a network namespace, without parts that change by themselves."""
    commands = ["ip -j -d addr show", "ip -j -d route show table all", "ip -6 -j -d route show table all",
                "nft -j list ruleset", "tc -j qdisc show"]
    script = "; echo @@; ".join(f"{it} 2>/dev/null" for it in commands)
    parts = run(["sh", "-c", script], netns, check=False).split("@@")
    addrs, routes, routes6, rules, qdiscs = (_json(it) for it in parts)
    names = {it["ifindex"]: it["ifname"] for it in addrs if "ifname" in it}
    interfaces = {it["ifname"]: _interface(it, names) for it in addrs if it.get("ifname") not in (None, "lo")}
    for it in qdiscs:
        # The default disciplines come and go with the interface.
        name = it.get("dev")
        if name in interfaces and it["kind"] not in ("noqueue", "pfifo_fast", "fq_codel", "pfifo", "mq"):
            interfaces[name]["qdiscs"].append({"kind": it["kind"], "options": it.get("options")})
            if it["kind"] == "ingress":
                filters = run(f"tc filter show dev {name} ingress", netns, check=False)
                interfaces[name]["filters"] = filters.count("redirect")
    return {
        "interfaces": interfaces,
        "routes": sorted(_route(it) for it in routes + routes6 if not _is_automatic(it)),
        "rules": _rules(rules),
    }


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return []


def _interface(it, names):
    info = it.get("linkinfo", {})
    data = info.get("info_data", {}) if info.get("info_kind") in ("bridge", "vxlan", "macvlan", "vlan") else {}
    settings = ("stp_state", "vlan_filtering", "mcast_snooping", "ageing_time", "forward_delay", "id", "remote", "port",
                "mode")
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in it.get("addr_info", []) if a.get("scope") != "link"]
    return {
        "index": it["ifindex"],
        "kind": info.get("info_kind"),
        "up": "UP" in it["flags"],
        "mtu": it["mtu"],
        "mac": it.get("address"),
        "master": it.get("master"),
        "alias": it.get("ifalias"),
        "settings": {name: data[name] for name in settings if name in data},
        "addresses": sorted(addresses),
        "qdiscs": [],
    }


def _is_automatic(route):
    dst = route.get("dst", "")
    return dst.startswith(("fe80", "ff00", "multicast")) or route.get("protocol") == "kernel" or dst in ("::1", "127")


def _route(it):
    parts = {key: value for key, value in it.items() if key not in ("flags", "pref", "expires", "used", "cache")}
    return json.dumps(parts, sort_keys=True)


def _rules(rules):
    """The ruleset without counters."""
    def plain(it):
        if isinstance(it, dict):
            return {key: plain(value) for key, value in it.items() if key not in ("handle", "packets", "bytes")}
        return [plain(value) for value in it] if isinstance(it, list) else it
    listed = rules.get("nftables", []) if isinstance(rules, dict) else []
    return [json.dumps(plain(it), sort_keys=True) for it in listed if "metainfo" not in it]


def ours(seen, inside):
    """The part of a `look` that conlink has made, without properties that differ when it is made again."""
    interfaces = {}
    for name, it in seen["interfaces"].items():
        if (it["alias"] or "").startswith(MARK):
            kept = {key: value for key, value in it.items() if key != "index"}
            # The addresses of outer ends and bridges are the kernel's choice.
            interfaces[name] = kept if inside else {**kept, "mac": None}
    return {
        "interfaces": interfaces,
        "routes": [it for it in seen["routes"] if json.loads(it).get("protocol") == ROUTE_PROTOCOL],
        "rules": [it for it in seen["rules"] if '"conlink"' in it],
    }


def difference(before, after, path=""):
    """The differences between two looks, one per line."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted(set(before) | set(after), key=str):
            if key not in after:
                lines.append(f"{path}/{key}: gone: {json.dumps(before[key])[:300]}")
            elif key not in before:
                lines.append(f"{path}/{key}: new: {json.dumps(after[key])[:300]}")
            else:
                lines += difference(before[key], after[key], f"{path}/{key}")
        return lines
    if isinstance(before, list) and isinstance(after, list):
        lines = [f"{path}: gone: {str(it)[:300]}" for it in before if it not in after]
        lines += [f"{path}: new: {str(it)[:300]}" for it in after if it not in before]
        return lines or [f"{path}: in another order"]
    return [f"{path}: {before} became {after}"]


# ---- the network of most rounds

def network(found):
    """The network file of the rounds, with every kind of link that the kernel has."""
    links = [
        "{service: h, bridge: lan, ip: [10.0.1.1/24, 'fd01::1/64'], route: 10.9.0.0/16 via 10.0.1.200, mtu: 1400}",
        "{service: r, bridge: lan, ip: 10.0.1.200/24}",
        "{service: r, dev: eth1, bridge: wan, ip: 10.0.2.200/24}",
        # The container already has a default route, as with Docker.
        "{service: g, bridge: wan, ip: 10.0.2.1/24, route: default via 10.0.2.200}",
        "{service: s, bridge: shared, base: host, ip: 10.0.3.1/24}",
    ]
    bridges = ["{bridge: lan, mode: linux, mtu: 1400}",
               "{bridge: wan, mode: linux, stp: false, ageing-time: 60}",
               "{bridge: shared, mode: linux}"]
    tunnels = []
    if "nft" in found:
        links.append("{service: n, bridge: lan, ip: 10.0.1.100/24, nat: 10.0.1.1}")
    if "macvlan" in found:
        links.append("{service: m, type: macvlan, outer-dev: up0, mode: bridge, ip: 10.0.4.1/24}")
    if "patch" in found:
        bridges.append("{bridge: cable, mode: patch}")
        links += ["{service: p, bridge: cable, ip: 10.0.5.1/24}", "{service: q, bridge: cable, ip: 10.0.5.2/24}"]
    if "netem" in found:
        links.append("{service: d, bridge: lan, ip: 10.0.1.150/24, netem: delay 1ms, netem-in: delay 2ms}")
    if "vxlan" in found:
        tunnels.append("{type: vxlan, bridge: wan, remote: 192.0.2.2, vni: 7}")
    text = ""
    for name, entries in (("links", links), ("bridges", bridges), ("tunnels", tunnels)):
        if entries:
            text += f"{name}:\n" + "".join(f"- {it}\n" for it in entries)
    return text


def services(found):
    """The containers of the network: names of services, one per replica."""
    names = ["h", "h", "r", "g", "s"]
    names += ["n"] if "nft" in found else []
    names += ["m"] if "macvlan" in found else []
    names += ["p", "q"] if "patch" in found else []
    names += ["d"] if "netem" in found else []
    return names


class World:
    """The environment of a round."""

    def __init__(self, binary, found, folder, seed, slack=1.0):
        self.binary = binary
        self.found = found
        self.folder = Path(folder)
        self.slack = slack
        self.engine = None
        self.containers = {}
        self.others = []
        self.started = 0
        self.log_path = self.folder / "conlink.log"
        self.file = self.folder / "net.yaml"
        shutil.rmtree(RUN, ignore_errors=True)
        self.file.write_text(network(found))
        # The parent of macvlan links, and other interfaces of a host.
        run("ip link add up0 type veth peer name up1")
        run("ip link set up0 up")
        run("ip link set up1 up")
        self.docker = FakeEngine(str(self.folder / "docker.sock"), seed)

    def close(self):
        """Ends every process and deletes everything in the campaign's own namespaces."""
        self.docker.close()
        for process in [self.engine, *(it.process for it in self.containers.values()), *self.others]:
            if process:
                process.kill()
                process.wait()
        for name in os.listdir("/run/netns"):
            run(["umount", "-l", f"/run/netns/{name}"], check=False)
            os.unlink(f"/run/netns/{name}")
        for name in look(None)["interfaces"]:
            run(["ip", "link", "del", name], check=False)
        run("nft flush ruleset", check=False)
        shutil.rmtree(RUN, ignore_errors=True)

    # ---- containers

    def process(self):
        """A process in a new network namespace, with an interface and a default route as with Docker."""
        process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        netns = f"/proc/{process.pid}/ns/net"
        until(10, lambda: os.readlink(netns) != own, 0.001)
        # The same addresses in all of them, so that a restarted container looks the same.
        setup = ("link set lo up\n"
                 "link add dk0 address 02:42:ac:11:00:02 type veth peer name dk1 address 02:42:ac:11:00:03\n"
                 "link set dk1 up\nlink set dk0 up\n"
                 "addr add 172.17.0.2/16 dev dk0\nroute add default via 172.17.0.1\n")
        run("ip -b -", netns, stdin=setup)
        return process

    def start_container(self, service, index=1, tell=True, name=None, process=None):
        """Starts a container and sends the event to conlink. Its process may already exist."""
        name = name or self.node(service, index)
        self.started += 1
        container = Container(
            id=f"{self.started:04x}".ljust(64, "c"),
            name=name,
            labels={PROJECT_LABEL: PROJECT, SERVICE_LABEL: service, NUMBER_LABEL: str(index)},
            process=process or self.process(),
            started_at=f"2026-01-01T00:00:00.{self.started:09}Z",
        )
        self.containers[name] = container
        self.docker.add(container, tell)
        return container

    def start_all(self):
        """Starts the containers of the network."""
        counts = {}
        for service in services(self.found):
            counts[service] = counts.get(service, 0) + 1
            self.start_container(service, counts[service])

    def stop_container(self, name, tell=True):
        container = self.containers.pop(name)
        container.process.kill()
        container.process.wait()
        self.docker.remove(container, tell)
        return container

    def restart_container(self, name):
        """Restarts a container, in a new namespace."""
        service, index = name.split("-")[1:3]
        self.stop_container(name)
        return self.start_container(service, int(index), name=name)

    @staticmethod
    def node(service, index=1):
        """The name of a container."""
        return f"{PROJECT}-{service}-{index}"

    def netns(self, place):
        """The file of a network namespace: of a container by its name, `bridges` or `host`."""
        if place == "host":
            return None
        return BRIDGES if place == "bridges" else f"/proc/{self.containers[place].pid}/ns/net"

    def ip(self, place, command, check=True):
        """Runs a command in a namespace."""
        return run(command, self.netns(place), check)

    # ---- conlink

    def start(self, *options, wait=True):
        """Starts conlink; with `wait` returns when it answers."""
        argv = [self.binary, "--network-file", str(self.file), "--compose-project", PROJECT, "--docker-socket",
                self.docker.path, "--podman-socket", "none", *options]
        with open(self.log_path, "ab") as log:
            self.engine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                           env={"PATH": os.environ["PATH"]})
        if wait and not until(PATIENCE, lambda: self.status() is not None):
            raise Failed("conlink does not answer")

    def kill(self):
        """kill -9"""
        self.engine.kill()
        self.engine.wait()
        self.engine = None

    def stop(self, seconds=PATIENCE):
        """SIGTERM. Returns the exit code; None if it does not end in time."""
        engine, self.engine = self.engine, None
        engine.send_signal(signal.SIGTERM)
        try:
            return engine.wait(seconds)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()
            return None

    def answer(self, timeout=10):
        """The status from the socket as text; None without an answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(str(RUN / f"{PROJECT}.sock"))
                connection.sendall(b'{"request":"status"}\n')
                answer = b""
                while part := connection.recv(1 << 20):
                    answer += part
            return answer
        except OSError:
            return None

    def status(self):
        """The status from the socket; None without an answer."""
        try:
            return json.loads(self.answer() or b"null")
        except ValueError:
            return None

    def state(self):
        status = self.status()
        return status and status["state"]

    def told(self):
        """The status from the command line, and the exit code of the health check."""
        shown = self.conlink("status", PROJECT, "--json")
        health = self.conlink("healthcheck", PROJECT)
        try:
            return json.loads(shown.stdout), health.returncode
        except ValueError:
            return {"state": f"no status: {shown.stderr.strip()}"}, health.returncode

    def conlink(self, *args, timeout=30):
        """Runs a conlink command."""
        return subprocess.run([self.binary, *args], capture_output=True, text=True, check=False, timeout=timeout,
                              env={"PATH": os.environ["PATH"]})

    def connected(self, seconds=PATIENCE):
        """Does it report this state within this time in seconds, for all containers?"""
        def is_met():
            status = self.status()
            return status and status["state"] == "connected" and status["listening"] \
                and {it["name"] for it in status["nodes"]} == set(self.containers)
        return until(seconds * self.slack, is_met)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # ---- comparison with the state before

    def places(self):
        return ["host", *(["bridges"] if os.path.exists(BRIDGES) else []), *self.containers]

    def all(self):
        """The kernel's state in all namespaces."""
        return {it: look(self.netns(it)) for it in self.places()}

    def ours(self):
        """What conlink has made, in a form that is equal when it is made again."""
        return {it: ours(look(self.netns(it)), it in self.containers) for it in self.places()}

    def inventory(self):
        """All that could be left over or touched: namespaces, files and processes too. The bridges' namespace is
        conlink's own and counts by its name."""
        everything = self.all()
        everything.pop("bridges", None)
        # Two folders are those of all projects and labs.
        common = [RUN / "lock", RUN / "lab"]
        return {
            "namespaces": everything,
            "names": sorted(os.listdir("/run/netns")),
            "files": sorted(str(it) for it in RUN.rglob("*") if it not in common),
            "processes": processes(),
        }


def processes():
    """Processes of conlink and those it may start, without zombies."""
    names = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name.startswith(("conlink", "ovs")) and rest.split()[0] != "Z":
            names.append(name)
    return sorted(names)
