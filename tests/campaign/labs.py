"""Rounds with real labs, started by `conlink lab` without a container engine."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from world import Failed, until

NAME = "campaign"
FILE = """
services:
  a: {command: sleep 1000, restart: always, x-network: {links: [{bridge: lan, ip: 10.0.1.1/24, route: 10.9.0.0/16 via 10.0.1.2}]}}
  b: {command: sleep 1000, x-network: {links: [{bridge: lan, ip: 10.0.1.2/24}, {dev: eth1, bridge: wan, ip: 10.0.2.2/24}]}}
  c: {command: sleep 1000, scale: 2, x-network: {links: [{bridge: wan, ip: 10.0.2.10/24}]}}
"""

# Node (or `bridges`), command, and the command that undoes it; None: conlink repairs it.
CHANGES = [
    ("a", "ip link set eth0 mtu 1300", "ip link set eth0 mtu 65535"),
    ("b", "ip link set eth0 down", "ip link set eth0 up"),
    ("b", "ip addr flush dev eth1", "ip addr add 10.0.2.2/24 dev eth1"),
    ("a", "ip route del 10.9.0.0/16", "ip route add 10.9.0.0/16 via 10.0.1.2 proto 194"),
    ("--bridges", "ip link set lan down", "ip link set lan up"),
    ("--bridges", "ip link set b_1-eth1 down", "ip link set b_1-eth1 up"),
    ("a", "ip link del eth0", None),
    ("--bridges", "ip link del b_1-eth0", None),
    ("--bridges", "ip link set a_1-eth0 nomaster", None),
    ("--bridges", "ip link del wan", None),
]


class Lab:
    """The lab of a round."""

    def __init__(self, it):
        self.it = it
        self.world = it.world
        (self.world.folder / "compose.yaml").write_text(FILE)
        it.before = self.world.inventory()

    def command(self, *args):
        return [self.world.binary, "lab", args[0], "--name", NAME, *args[1:]]

    def run(self, *args, check=True):
        done = subprocess.run(self.command(*args), cwd=self.world.folder, capture_output=True, text=True, check=False,
                              timeout=60)
        if check and done.returncode != 0:
            raise Failed(f"lab {' '.join(args)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def exec(self, node, command):
        """Runs a command in a node or in the namespace of the bridges."""
        words = command.split()
        return self.run("exec", node, *([] if node == "--bridges" else ["--"]), *words).stdout

    def status(self):
        try:
            return json.loads(self.world.conlink("status", NAME, "--json").stdout)
        except ValueError:
            return {"state": None}

    def until_state(self, state, seconds):
        return until(seconds * self.world.slack, lambda: self.status()["state"] == state)

    def is_whole(self):
        """Does a ping get through on both bridges, and is the route there?"""
        pings = [("a", "10.0.1.2"), ("b", "10.0.2.10"), ("b", "10.0.2.11")]
        done = [self.run("exec", node, "--", "ping", "-c", "1", "-W", "1", address, check=False) for node, address in pings]
        return all(x.returncode == 0 for x in done) and "10.9.0.0/16" in self.exec("a", "ip route")

    def keepers(self):
        """Process ids of the programs that hold labs."""
        pids = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if "conlink" in os.readlink(f"/proc/{pid}/exe"):
                    pids.append(int(pid))
            except OSError:
                pass
        return pids

    def nothing_is_left(self):
        """Checks that nothing of the lab is left, including processes of any name."""
        down = self.run("down", check=False)
        self.it.notes.append(f"down: {down.returncode} {down.stdout}{down.stderr}".strip())
        def is_gone():
            names = [Path(f"/proc/{pid}/comm") for pid in filter(str.isdigit, os.listdir("/proc"))]
            running = [x.read_text().strip() for x in names if x.exists()]
            return "sleep" not in running and not self.keepers()
        self.it.check("no process of the lab is left over", until(5, is_gone, 0.05))
        self.it.clean(self.it.before)


def changes(it):
    """Changes by hand in a lab are reported or repaired."""
    lab = Lab(it)
    lab.run("up")
    it.check("the lab is connected", lab.until_state("connected", 10), lambda: json.dumps(lab.status())[:3000])
    for node, command, back in it.rng.sample(CHANGES, 4):
        it.notes.append(f"{node}: {command}")
        lab.exec(node, command)
        if back is None:
            it.check("what vanished is there again within a second",
                     until(1.0 * lab.world.slack, lambda: lab.status()["state"] == "connected" and lab.is_whole()))
            continue
        it.check("a change is told within a second", lab.until_state("drifted", 1.0), lambda: json.dumps(lab.status())[:3000])
        it.check("a change is not healthy", lab.world.conlink("healthcheck", NAME).returncode == 1)
        lab.exec(node, back)
        it.check("what was taken back by hand is as described", lab.until_state("connected", 1.0))
    it.check("pings get through in the end", lab.is_whole())
    lab.nothing_is_left()


def killed_keeper(it):
    """kill -9 of the keeper: `lab down` or the next `lab up` removes its leftovers."""
    lab = Lab(it)
    lab.run("up")
    for pid in lab.keepers():
        os.kill(pid, signal.SIGKILL)
    it.check("a dead lab is not healthy", lab.world.conlink("healthcheck", NAME).returncode == 1)
    if it.rng.random() < 0.5:
        it.notes.append("up again")
        lab.run("up")
        it.check("the next lab is connected", lab.until_state("connected", 10))
        it.check("pings get through", lab.is_whole())
    lab.nothing_is_left()


def killed_up(it):
    """`lab up` is killed or ended at any moment: `lab down` leaves nothing."""
    lab = Lab(it)
    for _ in range(3):
        up = subprocess.Popen(lab.command("up"), cwd=lab.world.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(it.rng.random() * 0.15)
        up.send_signal(it.rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        up.wait()
        if it.rng.random() < 0.5:
            lab.run("down", check=False)
    lab.run("up")
    it.check("the lab is connected in the end", lab.until_state("connected", 10))
    it.check("pings get through", lab.is_whole())
    lab.nothing_is_left()


def killed_node(it):
    """A node's program is killed: it is started and wired again."""
    lab = Lab(it)
    lab.run("up")
    for _ in range(3):
        node = next(x for x in lab.status()["nodes"] if x["service"] == "a")
        os.kill(node["process"]["pid"], signal.SIGKILL)
        def is_back():
            status = lab.status()
            return status["state"] == "connected" and any(
                x["service"] == "a" and x["process"]["pid"] not in (None, node["process"]["pid"]) for x in status["nodes"])
        it.check("a killed node is back", until(15, is_back), lambda: json.dumps(lab.status())[:3000])
    it.check("pings get through", until(2, lab.is_whole))
    lab.nothing_is_left()


KINDS = {f"lab/{function.__name__.replace('_', '-')}": function for function in (
    changes, killed_keeper, killed_up, killed_node)}
