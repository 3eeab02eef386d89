"""The rounds: each is a world of its own in which something happens, and what must hold then.

A round is a function of a `Round`; its name is the function's with the family in front, such as `engine/slow-list`.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time

import drift as drifts
import world as worlds
from fake_engine import Faults, hostile_names
from world import BRIDGES, MARK, PROJECT, Failed, difference, look, run, until

# Time limit in seconds for reporting or repairing a change.
TOLD = 1.0


class Round:
    """A world with the checks made in it."""

    def __init__(self, name, seed, rng, world):
        self.name = name
        self.seed = seed
        self.rng = rng
        self.world = world
        self.checks = 0
        self.failed = []
        self.notes = []

    def check(self, what, holds, detail=""):
        """Counts a check. `what` is the condition; the detail is kept if it does not hold."""
        self.checks += 1
        if not holds:
            self.failed.append((what, detail() if callable(detail) else detail))
        return holds

    def same(self, what, before, after):
        """Checks that two looks are equal."""
        lines = difference(before, after)
        return self.check(what, not lines, "\n".join(lines[:40]))

    # ---- steps of many rounds

    def begin(self):
        """Starts all containers and conlink. Returns what conlink has made."""
        self.world.start_all()
        self.before = self.world.inventory()
        self.world.start()
        if not self.check("everything is wired", self.world.connected(), self.describe):
            raise Failed("the round did not come to its beginning")
        return self.settled()

    def settled(self):
        """What conlink has made, once two looks at it are equal."""
        last = self.world.ours()
        for _ in range(20):
            time.sleep(0.02)
            now = self.world.ours()
            if now == last:
                break
            last = now
        return last

    def honest(self, reference):
        """Checks the status that conlink reports."""
        status, health = self.world.told()
        now = self.world.ours()
        lines = difference(reference, now)
        says_so = status["state"] == "connected"
        self.check("it says `connected` only when everything is as described", not (says_so and lines),
                   "\n".join(lines[:40]))
        self.check("the health check agrees with the status", (health == 0) == says_so, f"{status['state']}, exit {health}")
        return not lines

    def reconnected(self, what, reference, seconds=worlds.PATIENCE):
        """Checks that everything is repaired, and that conlink reports it."""
        self.check(what, self.world.connected(seconds), self.describe)
        def is_met():
            return not difference(reference, self.world.ours())
        if not until(TOLD * self.world.slack, is_met, 0.05):
            self.same(f"{what}: and it is so", reference, self.world.ours())
        else:
            self.check(f"{what}: and it is so", True)

    def end(self, before=None):
        """SIGTERM: exit code 0, no leftovers, nothing foreign changed."""
        before = before or self.before
        code = self.world.stop()
        self.check("SIGTERM ends it with exit code 0", code == 0, f"exit code {code}")
        self.clean(before)

    def clean(self, before):
        """Checks that everything is as before the start."""
        after = self.world.inventory()
        for what in ("names", "files", "processes"):
            lines = difference(before[what], after[what])
            self.check(f"no {what} are left over", not lines, "\n".join(lines))
        left, touched = [], []
        for place, then in before["namespaces"].items():
            if place not in after["namespaces"]:
                continue
            for line in difference(then, after["namespaces"][place], place):
                # Anything new is a leftover; anything missing or different was changed.
                (left if ": new: " in line else touched).append(line)
        for place in set(after["namespaces"]) - set(before["namespaces"]):
            seen = after["namespaces"][place]
            left += [f"{place}: {name}" for name, it in seen["interfaces"].items() if (it["alias"] or "").startswith(MARK)]
        self.check("nothing is left over in a namespace", not left, "\n".join(left[:40]))
        self.check("nothing of others was touched", not touched, "\n".join(touched[:40]))

    def describe(self):
        status = self.world.status()
        return "status: " + json.dumps(status)[:4000]


# ---- drift

def drift_round(drift):
    """The round of one drift."""
    def perform(it):
        reference = it.begin()
        drifts.perform(it.world, drift.commands)
        if drift.expected == drifts.REPAIRED:
            it.reconnected("what vanished is there again within a second", reference, TOLD)
            it.honest(reference)
        elif drift.expected == drifts.UNTOUCHED:
            _is_ignored(it)
        else:
            _is_told(it, drift, reference)
        # Foreign things are not removed by a new start.
        by_hand = drift.by_hand or drift.expected in (drifts.UNTOUCHED, drifts.REFUSED)
        if drift.back is not None and (by_hand or it.rng.random() < 0.5):
            it.notes.append("taken back by hand")
            drifts.perform(it.world, drift.back)
            # A failure is tried again after at most 5 s.
            limit = 10.0 if drift.expected == drifts.REFUSED else TOLD
            it.reconnected("what was taken back by hand is as described", reference, limit)
        elif drift.expected == drifts.DRIFTED:
            it.notes.append("taken back by a new start")
            it.world.kill()
            it.world.start()
            it.reconnected("a new start repairs what drifted", reference)
        if drift.name == "macvlan-s-parent-replaced":
            # Replaced by hand, so it has another index and MAC address.
            now = look(None)["interfaces"]
            for name in ("up0", "up1"):
                it.before["namespaces"]["host"]["interfaces"][name].update(index=now[name]["index"], mac=now[name]["mac"])
        it.end()
    return perform


def _is_ignored(it):
    """Checks that a change of something foreign stays, and has no effect on conlink."""
    ours, everything = it.world.ours(), it.world.all()
    time.sleep(0.3)
    it.check("what is somebody else's does not matter", it.world.connected(TOLD), it.describe)
    it.same("what is somebody else's is left alone", everything, it.world.all())
    it.honest(ours)


def _is_told(it, drift, reference):
    """Checks that a change is reported and left alone."""
    changed = it.world.ours()
    wanted = {drifts.DRIFTED: "drifted", drifts.REFUSED: "failing"}[drift.expected]
    is_told = until(TOLD * it.world.slack, lambda: it.world.state() == wanted)
    it.check(f"`{wanted}` is told within a second", is_told, it.describe)
    it.honest(reference)
    status, health = it.world.told()
    it.check("a change is not healthy", health == 1, f"exit code {health}")
    told = [text for part in _parts(status) for text in (part.get("drift") or part["errors"])]
    it.check("the change is told in words", bool(told), json.dumps(status)[:3000])
    if drift.expected == drifts.DRIFTED:
        diff = it.world.conlink("diff", PROJECT)
        it.check("`conlink diff` prints it", diff.returncode == 1 and diff.stdout.strip() != "", diff.stdout + diff.stderr)
    time.sleep(0.2)
    it.same("what somebody changed is left alone", changed, it.world.ours())


def _parts(status):
    """Links, bridges and tunnels of a status."""
    links = [link for node in status.get("nodes", []) for link in node["links"]]
    return links + status.get("bridges", []) + status.get("tunnels", [])


# ---- kills and restarts

def kill_amid_the_start(it):
    """kill -9 while links are made, several times; then exactly the described state exists."""
    world = it.world
    world.start_all()
    it.before = world.inventory()
    for _ in range(it.rng.randrange(2, 6)):
        world.start(wait=False)
        time.sleep(it.rng.random() * 0.25)
        world.kill()
    world.start()
    if it.check("everything is wired after kills", world.connected(), it.describe):
        it.honest(it.settled())
    it.end()


def kill_by_sigterm_amid_the_start(it):
    """SIGTERM at any moment of the start leaves nothing."""
    world = it.world
    world.start_all()
    before = world.inventory()
    for _ in range(3):
        world.start(wait=False)
        # From before the start of the program until after it has finished.
        time.sleep(it.rng.random() * 0.3)
        code = world.stop()
        it.check("SIGTERM amid the start ends it", code in (0, -signal.SIGTERM, 143), f"exit code {code}")
        it.clean(before)


def kill_and_adopt(it):
    """kill -9 of an idle engine: the next one adopts all interfaces without a change."""
    reference = it.begin()
    world = it.world
    numbers = _numbers(world)
    for _ in range(it.rng.randrange(1, 4)):
        world.kill()
        world.start()
        it.reconnected("a new start finds everything", reference)
    it.check("no interface was made anew", numbers == _numbers(world))
    it.end()


def kill_and_change(it):
    """Damage and restarts while no engine runs."""
    reference = it.begin()
    world = it.world
    world.kill()
    damage = [d for d in drifts.DRIFTS if d.expected in (drifts.REPAIRED, drifts.DRIFTED)
              and (not d.needs or d.needs in world.found) and not d.name.startswith("macvlan-s-parent")]
    for one in it.rng.sample(damage, 3):
        it.notes.append(one.name)
        try:
            drifts.perform(world, one.commands)
        except Failed:
            # Two kinds of damage may affect the same thing.
            pass
    world.restart_container(world.node(it.rng.choice(["h", "r", "g", "s"])))
    world.start()
    it.reconnected("a new start repairs everything", reference)
    it.end()


def kill_containers(it):
    """Containers die; some are started again."""
    it.begin()
    world = it.world
    for _ in range(it.rng.randrange(5, 15)):
        name = it.rng.choice(list(world.containers))
        world.restart_container(name)
        time.sleep(it.rng.choice([0, 0, 0.01, 0.1]))
    if it.check("restarted containers are wired", world.connected(), it.describe):
        it.honest(it.settled())
    gone = it.rng.sample(sorted(world.containers), 2)
    for name in gone:
        world.stop_container(name)
    it.check("what is left is connected", world.connected(), it.describe)
    def is_gone():
        everything = [*look(None)["interfaces"].values(), *look(BRIDGES)["interfaces"].values()]
        return not any((port["alias"] or "").startswith(f"{MARK}{name}:") for port in everything for name in gone)
    it.check("nothing of a stopped container is left", until(5, is_gone, 0.05))
    it.end()


def kill_everything_at_random(it):
    """Kills, ends and restarts in any order."""
    it.begin()
    world = it.world
    for _ in range(it.rng.randrange(5, 12)):
        action = it.rng.choice(["kill", "stop", "container", "damage", "daemon"])
        it.notes.append(action)
        if action == "kill":
            world.kill()
            world.start(wait=it.rng.random() < 0.5)
        elif action == "stop":
            it.check("SIGTERM ends it with exit code 0", world.stop() in (0, -signal.SIGTERM, 143))
            world.start()
        elif action == "container":
            world.restart_container(it.rng.choice(list(world.containers)))
        elif action == "daemon":
            world.docker.drop_connections()
        else:
            run(["ip", "link", "del", it.rng.choice(["h_1-eth0", "r_1-eth0", "lan", "wan"])], BRIDGES, check=False)
        time.sleep(it.rng.random() * 0.1)
    if it.check("everything is wired in the end", world.connected(), it.describe):
        it.honest(it.settled())
    world.stop()
    after = world.inventory()
    left = [f"{place}: {name}" for place, seen in after["namespaces"].items()
            for name, port in seen["interfaces"].items() if (port["alias"] or "").startswith(MARK)]
    it.check("nothing is left over in a namespace", not left, "\n".join(left))
    for what in ("names", "files", "processes"):
        it.same(f"no {what} are left over", it.before[what], after[what])


def _numbers(world):
    """The indices of all our interfaces."""
    return {(place, name): port["index"] for place, seen in world.all().items()
            for name, port in seen["interfaces"].items() if (port["alias"] or "").startswith(MARK)}


# ---- the container engine

def _under(it, faults, seconds):
    """Starts a container and restarts another while the daemon has faults, which end after some seconds."""
    world = it.world
    world.docker.faults = faults
    world.docker.drop_connections()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.restart_container(it.rng.choice(list(world.containers)))
        time.sleep(0.2)
        if it.rng.random() < 0.3:
            world.docker.drop_connections()
    return world


def _recovered(it):
    """The faults of the daemon end."""
    it.world.docker.faults = Faults()
    it.world.docker.drop_connections()
    if it.check("everything is wired when the container engine is well again", it.world.connected(30), it.describe):
        it.honest(it.settled())
    it.end()


def engine_slow(it):
    """Each answer is late."""
    it.begin()
    _under(it, Faults(delay=0.05 + it.rng.random() * 0.3), 1.5)
    _recovered(it)


def engine_truncated(it):
    """Answers are truncated."""
    it.begin()
    world = _under(it, Faults(cut=0.5), 1.5)
    world.docker.faults = Faults(cut=1.0)
    world.docker.drop_connections()
    time.sleep(TOLD)
    it.check("an engine that gives no list is not healthy", world.told()[1] == 1)
    _recovered(it)


def engine_resets(it):
    """Connections are reset."""
    it.begin()
    world = _under(it, Faults(reset=0.5), 1.5)
    world.docker.faults = Faults(reset=1.0)
    world.docker.drop_connections()
    time.sleep(TOLD)
    it.check("an engine that gives no list is not healthy", world.told()[1] == 1)
    _recovered(it)


def engine_garbage(it):
    """Answers are not JSON, or JSON of unexpected types."""
    it.begin()
    _under(it, Faults(garbage=0.7), 2.0)
    _recovered(it)


def engine_names(it):
    """Names and labels with newlines, control characters and any length."""
    world = it.world
    mark = f"FORGED-{it.seed}"
    world.docker.faults = Faults(extra_entries=hostile_names(it.rng, mark))
    world.start_all()
    it.before = world.inventory()
    world.start("-v")
    names = set(world.containers)
    def is_wired():
        status = world.status()
        # Some containers that do not exist may match the configuration, and fail.
        up = {node["name"] for node in (status or {}).get("nodes", []) if node["state"] == "connected"}
        return names <= up
    it.check("those with ordinary names are wired", until(worlds.PATIENCE, is_wired, 0.05), it.describe)
    lines = world.log().splitlines()
    it.check("no name begins a line of the log", not [line for line in lines if line.startswith(mark)])
    raw = re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", world.log())
    it.check("no control characters get into the log", not raw, repr(raw[:10]))
    world.docker.faults = Faults()
    world.docker.drop_connections()
    it.check("everything is connected without them", world.connected(), it.describe)
    it.end()


def engine_output(it):
    """Commands in containers print newlines, control characters and lines without an end."""
    world = it.world
    mark = f"FORGED-{it.seed}"
    world.file.write_text(world.file.read_text() + "commands:\n- {service: h, command: [echo, wired]}\n")
    output = it.rng.choice([f"a\x1b[2J\r{mark}\nlast".encode(), b"x" * 20_000_000, b"\x00\xff" * 1000, b"\n" * 100_000])
    world.docker.faults = Faults(output=(output, it.rng.choice([0, 1, 255, None])))
    it.begin()
    slowest = max(_time(world.status) for _ in range(20))
    # A debug build takes a second for the longest of these outputs.
    it.check("status answers while a command prints", slowest < 2.0 * world.slack, f"{slowest:.3f} s")
    raw = re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", world.log())
    it.check("no control characters get into the log", not raw, repr(raw[:10]))
    it.check("output begins no line of the log", not [x for x in world.log().splitlines() if x.startswith(mark)])
    with open(f"/proc/{world.engine.pid}/status", encoding="ascii") as status:
        peak = int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])
    it.check("output is not kept", peak < 150_000, f"{peak} KiB at most")
    it.end()


def engine_storm(it):
    """Thousands of events: of existing and unknown containers, and of unknown form."""
    reference = it.begin()
    world = it.world
    docker = world.docker
    known = [x.id for x in world.containers.values()]
    shapes = [b"{}\n", b'{"status":"start","id":"ab"}\n', b'{"Type":"container","Action":"start","Actor":null}\n']
    for _ in range(3000):
        choice = it.rng.random()
        if choice < 0.1:
            docker.tell_raw(it.rng.choice(shapes))
        else:
            container = it.rng.choice(known) if choice < 0.6 else f"{it.rng.getrandbits(256):064x}"
            docker.tell(it.rng.choice(["start", "die", "pause", "unpause"]), container)
    late = world.start_container("h", 3)
    it.check("a container that starts in a storm is wired", world.connected(30), it.describe)
    world.stop_container(late.name)
    it.reconnected("everything is as before the storm", reference, 30)
    it.end()


def engine_slow_list(it):
    """During a list request of one second a container starts, and more than 256 events arrive."""
    world = it.world
    world.start_all()
    it.before = world.inventory()
    world.docker.faults = Faults(list_delay=1.0)
    world.start(wait=False)
    until(5, lambda: any(path.endswith("containers/json") for _, _, path in world.docker.requests))
    time.sleep(0.3)
    world.docker.faults = Faults()
    name = world.start_container("h", 3).name
    for _ in range(3000):
        world.docker.tell("start", f"{it.rng.getrandbits(256):064x}")
    it.check("a container that starts while the list is on its way is wired", world.connected(), it.describe)
    it.check("its link is there", "eth0" in look(world.netns(name))["interfaces"])
    it.end()


def engine_gone_and_back(it):
    """The daemon restarts, and containers die and start in the meantime."""
    it.begin()
    world = it.world
    world.docker.close()
    time.sleep(0.2 + it.rng.random())
    status, health = world.told()
    it.check("without a container engine it is not healthy", health == 1, json.dumps(status)[:1000])
    for name in it.rng.sample(sorted(world.containers), 3):
        service, index = name.split("-")[1:3]
        world.stop_container(name, tell=False)
        world.start_container(service, int(index), tell=False)
    world.docker.open()
    if it.check("everything is wired when it is back", world.connected(30), it.describe):
        it.honest(it.settled())
    it.end()


def engine_host_pid(it):
    """An inspection says that a container's process is process 1: the host's network is not wired."""
    world = it.world
    world.start_all()
    victim = world.containers[world.node("h", 2)]
    def fault(truth):
        return truth and {**truth, "State": {**truth["State"], "Pid": 1}}
    world.docker.faults = Faults(inspections={victim.id: fault})
    it.before = world.inventory()
    world.start()
    def has_settled():
        others = {x["name"]: x["state"] for x in world.status()["nodes"] if x["name"] != victim.name}
        return others and set(others.values()) == {"connected"} and len(others) == len(world.containers) - 1
    it.check("other containers are wired", until(worlds.PATIENCE, has_settled, 0.05), it.describe)
    time.sleep(0.3)
    wired = [name for name, x in look(None)["interfaces"].items() if (x["alias"] or "").startswith(MARK + victim.name)]
    it.check("the host is not wired as a container", not wired, str(wired))
    it.check("it is not said to be connected", world.state() != "connected", it.describe)
    it.check("and is not healthy", world.told()[1] == 1)
    it.end()


def engine_recycled_pid(it):
    """The first answer about a container has a process number that has been reused."""
    world = it.world
    world.start_all()
    other = world.process()
    world.others.append(other)
    victim = world.containers[world.node("h", 1)]
    answers = [other.pid]
    def fault(truth):
        pid = answers.pop() if answers else truth["State"]["Pid"]
        return {**truth, "State": {**truth["State"], "Pid": pid}}
    netns = f"/proc/{other.pid}/ns/net"
    before = look(netns)
    world.docker.faults = Faults(inspections={victim.id: fault})
    it.before = world.inventory()
    world.start()
    it.check("everything is connected", world.connected(), it.describe)
    it.check("the container is wired in its own namespace", "eth0" in look(world.netns(victim.name))["interfaces"])
    it.same("the other's namespace is as it was", before, look(netns))
    it.end()


def engine_paused(it):
    """Containers that are paused when the engine starts are wired too."""
    world = it.world
    world.start_all()
    paused = it.rng.sample(list(world.containers.values()), 2)
    for one in paused:
        one.state = "paused"
    it.before = world.inventory()
    world.start()
    it.check("paused containers are wired", world.connected(), it.describe)
    for one in paused:
        one.state = "running"
        world.docker.tell("unpause", one.id)
    it.check("containers that go on are connected", world.connected(), it.describe)
    it.honest(it.settled())
    it.end()


def _time(function):
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


# ---- look-alikes

def planted_before_the_start(it):
    """Foreign interfaces, bridges, routes and rules with names and marks similar to ours, in every namespace."""
    world = it.world
    world.start_all()
    host = ("link add h_9-eth0 type veth peer name c0123456-eth0\nlink add br-lan type bridge\n"
            "link set h_9-eth0 master br-lan\nlink add vxlan-9 type bridge\n"
            "link set h_9-eth0 alias conlink:other:other-h-9:eth0\nlink set br-lan alias conlink:campaignx::br-lan\n"
            "link set up up1\naddr add 192.0.2.1/24 dev up1\nroute add 198.51.100.0/24 dev up1\n")
    run("ip -b -", stdin=host)
    run("nft -f -", stdin="table inet conlinkx {\nchain c {\ntype filter hook input priority 0;\n}\n}\n")
    inside = ("link add eth9 type veth peer name eth8\nlink set eth9 alias conlink:other:other-h-1:eth9\n"
              "link set eth8 up\nlink set eth9 up\naddr add 10.99.0.1/24 dev eth9\nroute add 10.98.0.0/16 via 10.99.0.2\n"
              "route add 10.97.0.0/16 dev eth9 metric 7\n")
    for name in world.containers:
        run("ip -b -", world.netns(name), stdin=inside)
        run("nft -f -", world.netns(name), stdin="table inet foreign {\n}\ntable ip conlink {\n}\n")
    it.before = world.inventory()
    world.start()
    it.check("everything is wired beside look-alikes", world.connected(), it.describe)
    world.ip("bridges", "ip link add h_7-eth0 type veth peer name x7")
    world.ip("bridges", "ip link add lan7 type bridge")
    bridges = {name: x for name, x in look(BRIDGES)["interfaces"].items() if name in ("h_7-eth0", "x7", "lan7")}
    held = os.open(BRIDGES, os.O_RDONLY)
    world.kill()
    world.start()
    it.check("a new start finds everything", world.connected(), it.describe)
    world.restart_container(world.node("r"))
    it.check("a restarted container is wired", world.connected(), it.describe)
    # It has a new namespace, without look-alikes.
    del it.before["namespaces"][world.node("r")]
    it.end()
    after = look(f"/proc/{os.getpid()}/fd/{held}")["interfaces"]
    os.close(held)
    it.same("where bridges lived others' interfaces remain, and ours do not", bridges, after)


def planted_where_ours_are_to_be(it):
    """A foreign interface has the name of a container's end, an outer end or a bridge."""
    world = it.world
    world.start_all()
    case = it.rng.choice(["inner", "outer", "bridge"])
    it.notes.append(case)
    place, name = {"inner": (world.node("h"), "eth0"), "outer": ("host", "s_1-eth0"), "bridge": ("host", "shared")}[case]
    world.ip(place, f"ip link add {name} type veth peer name theirs")
    it.before = world.inventory()
    world.start()
    it.check("it is told as a failure", until(worlds.PATIENCE, lambda: world.state() == "failing"), it.describe)
    it.check("and is not healthy", world.told()[1] == 1)
    time.sleep(0.5)
    it.check("theirs is there", name in look(world.netns(place))["interfaces"])
    world.ip(place, f"ip link del {name}")
    it.check("when it goes ours is made", world.connected(), it.describe)
    world.stop()
    world.ip(place, f"ip link add {name} type veth peer name theirs")
    after = world.inventory()
    # Made again by hand, so it has another index.
    for x in ("theirs", name):
        it.before["namespaces"][place]["interfaces"][x].update(index=0, mac=None)
        after["namespaces"][place]["interfaces"][x].update(index=0, mac=None)
    it.same("nothing is left over and nothing of others was touched", it.before, after)


def planted_default_route(it):
    """A container's own default route is restored when conlink ends, also after kill -9."""
    it.begin()
    world = it.world
    route = world.ip(world.node("g"), "ip -4 route show default").strip()
    it.check("the described default route counts", "via 10.0.2.200" in route.splitlines()[0], route)
    if it.rng.random() < 0.5:
        world.kill()
        world.start()
        it.check("a new start finds everything", world.connected(), it.describe)
    it.end()


# ---- floods

def flood_of_notices(it):
    """Thousands of interfaces are made and deleted while the engine is stopped: it finds the changes that it missed."""
    reference = it.begin()
    world = it.world
    os.kill(world.engine.pid, signal.SIGSTOP)
    flood = "".join(f"link add f{n} group 77 type veth peer name g{n} group 77\n" for n in range(1000)) + "link del group 77\n"
    places = ["bridges", world.node("h"), "host"]
    threads = [threading.Thread(target=run, args=("ip -b -", world.netns(x)), kwargs={"stdin": flood}) for x in places]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    drifts.perform(world, [("bridges", "ip link del r_1-eth0"), ("h", "ip link del eth0"),
                           ("bridges", "ip link set h_2-eth0 nomaster")])
    is_told = it.rng.random() < 0.5
    if is_told:
        drifts.perform(world, [("s", "ip link set eth0 down")])
    for x in threads:
        x.join()
    os.kill(world.engine.pid, signal.SIGCONT)
    if is_told:
        it.check("what was changed in a flood is told", until(5 * world.slack, lambda: world.state() == "drifted"), it.describe)
        drifts.perform(world, [("s", "ip link set eth0 up")])
    it.reconnected("what vanished in a flood is there again", reference)
    it.end()


def flood_while_it_runs(it):
    """A storm of changes of its own and others' interfaces while it works."""
    reference = it.begin()
    world = it.world
    changes = "".join(f"link set dk0 mtu {1000 + n % 400}\n" for n in range(5000)) + "link set dk0 mtu 1500\n"
    name = world.node("h")
    flood = subprocess.Popen(["nsenter", f"--net={world.netns(name)}", "ip", "-b", "-"], stdin=subprocess.PIPE, text=True)
    writer = threading.Thread(target=flood.communicate, args=(changes,))
    writer.start()
    slowest = 0.0
    for _ in range(10):
        run(["ip", "link", "del", it.rng.choice(["r_1-eth0", "h_1-eth0", "wan"])], BRIDGES, check=False)
        slowest = max(slowest, _time(world.status))
        time.sleep(0.05)
    writer.join()
    it.check("status answers in a flood", slowest < 1.0 * world.slack, f"{slowest:.3f} s")
    it.reconnected("what vanished in a flood is there again", reference)
    it.end()


# ---- exit codes of --once

def once_connected(it):
    """`--once` exits with 0, and the links stay."""
    world = it.world
    world.start_all()
    before = world.inventory()
    code = _once(world)
    it.check("--once exits with 0", code == 0, f"exit code {code}")
    it.check("the links stay", "eth0" in look(world.netns(world.node("h")))["interfaces"])
    world.start()
    it.check("an engine finds everything", world.connected(), it.describe)
    it.end(before)


def once_failing(it):
    """`--once` exits with 1 if anything does not match the configuration."""
    world = it.world
    world.start_all()
    case = it.rng.choice(["foreign", "route", "garbage", "cut", "dead"])
    it.notes.append(case)
    if case == "foreign":
        world.ip(world.node("h"), "ip link add eth0 type veth peer name theirs")
    elif case == "route":
        world.file.write_text(world.file.read_text().replace("links:\n", "links:\n- {service: h, dev: eth7, bridge: lan, "
                                                             "ip: 10.0.7.1/24, route: 10.6.0.0/16 via 10.66.0.1}\n"))
    elif case in ("garbage", "cut"):
        world.docker.faults = Faults(garbage=1.0) if case == "garbage" else Faults(cut=1.0)
    else:
        victim = world.containers[world.node("h")]
        world.docker.faults = Faults(inspections={victim.id: lambda truth: {**truth, "State": {
            **truth["State"], "Pid": 999_999}}})
    before = world.inventory()
    code = _once(world)
    # conlink may wait for a daemon whose answers are unusable.
    it.check("--once does not exit with 0", code != 0, f"exit code {code}")
    world.docker.faults = Faults()
    world.start()
    until(worlds.PATIENCE, lambda: world.state() in ("connected", "failing"))
    it.end(before)


def _once(world):
    world.start("--once", wait=False)
    try:
        return world.engine.wait(worlds.PATIENCE)
    except subprocess.TimeoutExpired:
        world.kill()
        return None
    finally:
        world.engine = None


# ---- all of them

def kinds(found):
    """All rounds by name, and the reasons for skipped ones."""
    all_kinds, skipped = {}, {}
    for one in drifts.DRIFTS:
        if one.needs and one.needs not in found:
            skipped[f"drift/{one.name}"] = f"the kernel has no {one.needs}"
        else:
            all_kinds[f"drift/{one.name}"] = drift_round(one)
    for function in (
        kill_amid_the_start, kill_by_sigterm_amid_the_start, kill_and_adopt, kill_and_change, kill_containers,
        kill_everything_at_random, engine_slow, engine_truncated, engine_resets, engine_garbage, engine_names,
        engine_output, engine_storm, engine_slow_list, engine_gone_and_back, engine_host_pid, engine_recycled_pid,
        engine_paused, planted_before_the_start, planted_where_ours_are_to_be, planted_default_route, flood_of_notices,
        flood_while_it_runs, once_connected, once_failing,
    ):
        family, name = function.__name__.split("_", 1)
        all_kinds[f"{family}/{name.replace('_', '-')}"] = function
    return all_kinds, skipped

