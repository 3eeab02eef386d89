"""Measurements of the engine. Each prints its values and limits, and can be run alone by its name."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from world import PROJECT, RUN, Failed, World, run, until

# Number of containers in the measurements with many containers.
MANY = 200


class Measured:
    """Values, each with its limit."""

    def __init__(self, name):
        self.name = name
        self.missed = 0

    def value(self, what, value, limit, unit=""):
        """Prints a value. A value above its limit is a failure."""
        is_met = value is not None and value <= limit
        self.missed += not is_met
        shown = "none" if value is None else f"{value:.3g}"
        print(f"{'ok  ' if is_met else 'MISS'} {self.name}: {what}: {shown}{unit}, at most {limit:g}{unit}", flush=True)

    def fact(self, what, holds, detail=""):
        """Prints a condition and whether it holds."""
        self.missed += not holds
        print(f"{'ok  ' if holds else 'MISS'} {self.name}: {what}{'' if holds else ': ' + str(detail)[:500]}", flush=True)


def failing_link(it, world):
    """A link with an impossible route: number of tries and of log lines in ten seconds."""
    world.file.write_text("links:\n- {service: h, bridge: lan, ip: 10.0.1.1/24, route: 10.9.0.0/16 via 10.66.0.1}\n")
    container = world.start_container("h")
    monitor = subprocess.Popen(["nsenter", f"--net={world.netns(container.name)}", "ip", "-o", "monitor", "link"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    world.start("-v")
    time.sleep(10)
    monitor.terminate()
    made = {line.split(":")[0] for line in monitor.communicate()[0].splitlines() if "eth0" in line and "Deleted" not in line}
    log = world.log()
    # A step is logged before it is applied, in the syntax of `ip route`.
    tries = [line for line in log.splitlines() if "10.9.0.0/16" in line and "rror" not in line]
    errors = [line for line in log.splitlines() if "10.9.0.0/16" in line and "rror" in line]
    it.value("tries in the first 10 s", len(tries), 8)
    it.value("log lines of the failure", len(errors), max(len(tries), 1))
    it.fact("the failure is logged", bool(errors), log[-500:])
    it.value("interfaces made in the first 10 s", len(made), 8)
    it.fact("it is not healthy", world.told()[1] == 1)


def _ping(world, source, address, count=1000):
    """Sends pings a millisecond apart."""
    return subprocess.Popen(["nsenter", f"--net={world.netns(source)}", "ping", "-q", "-i", "0.001", "-c", str(count),
                             "-W", "1", address], stdout=subprocess.PIPE, text=True)


def _lost(ping):
    """The number of lost pings; None if the program did not print it."""
    found = re.search(r"(\d+) packets transmitted, (\d+) received", ping.communicate()[0])
    return found and int(found[1]) - int(found[2])


def bad_route(it, world):
    """An invalid route is added to a link with traffic: the link stays."""
    good = "links:\n- {service: h, bridge: lan, ip: 10.0.1.1/24}\n- {service: r, bridge: lan, ip: 10.0.1.2/24}\n"
    bad = good.replace("10.0.1.1/24}", "10.0.1.1/24, route: 10.9.0.0/16 via 10.66.0.1}")
    world.file.write_text(good)
    names = [world.start_container(x).name for x in ("h", "r")]
    world.start()
    it.fact("both links are up", world.connected())
    ping = _ping(world, names[1], "10.0.1.1")
    time.sleep(0.1)
    world.kill()
    world.file.write_text(bad)
    world.start()
    it.value("pings lost of 1,000", _lost(ping), 0)
    it.fact("the bad route is told", until(5, lambda: world.state() == "failing"), world.state())
    it.value("pings lost of 1,000 while it is tried again", _lost(_ping(world, names[1], "10.0.1.1")), 0)


def bad_route_in_a_lab(it, world):
    """The same in a lab, by a second `lab up`."""
    good = ("services:\n  h: {command: sleep 1000, x-network: {links: [{bridge: lan, ip: 10.0.1.1/24}]}}\n"
            "  r: {command: sleep 1000, x-network: {links: [{bridge: lan, ip: 10.0.1.2/24}]}}\n")
    bad = good.replace("10.0.1.1/24}", "10.0.1.1/24, route: 10.9.0.0/16 via 10.66.0.1}")
    file = world.folder / "compose.yaml"
    def lab(*args):
        return subprocess.Popen([world.binary, "lab", *args], cwd=world.folder, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
    file.write_text(good)
    up = lab("up", "--name", "measured")
    said = up.communicate(timeout=60)[0]
    it.fact("the lab is up", up.returncode == 0, said)
    ping = lab("exec", "--name", "measured", "r", "--", "ping", "-q", "-i", "0.001", "-c", "1000", "-W", "1", "10.0.1.1")
    time.sleep(0.1)
    file.write_text(bad)
    up = lab("up", "--name", "measured")
    said = up.communicate(timeout=60)[0]
    it.fact("the bad route is told", up.returncode == 1 and "10.9.0.0/16" in said, said)
    it.value("pings lost of 1,000", _lost(ping), 0)
    down = lab("down", "--name", "measured")
    it.fact("the lab ends", down.wait(60) == 0)
    left = sorted(str(x) for x in (RUN / "lab").rglob("*")) if (RUN / "lab").exists() else []
    it.fact("nothing of the lab is left", not left, left)


def link_down(it, world):
    """`ip link set eth0 down` in a container: time until status, diff and the health check report it."""
    world.file.write_text("links:\n- {service: h, bridge: lan, ip: 10.0.1.1/24}\n")
    name = world.start_container("h").name
    world.start()
    it.fact("the link is up", world.connected())
    by_status, by_all = [], []
    for _ in range(10):
        world.ip(name, "ip link set eth0 down")
        begin = time.monotonic()
        if not until(2, lambda: world.state() != "connected", 0.001):
            break
        by_status.append((time.monotonic() - begin) * 1e3)
        codes = [world.conlink(x, PROJECT).returncode for x in ("status", "diff", "healthcheck")]
        if codes != [1, 1, 1]:
            it.fact("status, diff and healthcheck exit with 1", False, codes)
            break
        by_all.append((time.monotonic() - begin) * 1e3)
        world.ip(name, "ip link set eth0 up")
        until(2, lambda: world.state() == "connected", 0.001)
    it.value("status, the slowest of 10", max(by_status, default=None), 100, " ms")
    it.value("status, diff and healthcheck, the slowest of 10",
             max(by_all, default=None) if len(by_all) == 10 else None, 100, " ms")


def _many(world):
    """Makes many containers; the engine is not started yet."""
    world.file.write_text("links:\n- {service: h, bridge: lan, ip: 10.0.0.1/16}\n")
    for index in range(1, MANY + 1):
        world.start_container("h", index)


def idle(it, world):
    """A minute with nothing to do."""
    _many(world)
    world.start()
    it.fact(f"{MANY} containers are wired", world.connected(120))
    time.sleep(3)
    before = _cpu(world.engine.pid)
    time.sleep(60)
    it.value("processor time of an idle minute", _cpu(world.engine.pid) - before, 0.02, " s")


def _cpu(pid):
    """The processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(it, world):
    """Response time of `status` while many containers are wired."""
    _many(world)
    # In another process, because the fake container engine keeps this one busy.
    poll = subprocess.Popen([sys.executable, "-B", Path(__file__).with_name("poll.py"), str(RUN / f"{PROJECT}.sock"), "120"],
                            stdout=subprocess.PIPE, text=True)
    world.start(wait=False)
    times = sorted(json.loads(poll.communicate()[0]))
    it.fact(f"{MANY} containers are wired", world.connected(1), world.state())
    it.value(f"status, median of {len(times)}", median(times), 10, " ms")
    it.value(f"status, 99 of 100 of {len(times)}", times[len(times) * 99 // 100], 10, " ms")


def second_signal(it, world):
    """The second SIGTERM while many containers are wired."""
    _many(world)
    slowest = 0.0
    for number in range(10):
        world.start(wait=False)
        # Not during the start, before signals are handled.
        until(10, lambda: (RUN / f"{PROJECT}.sock").exists(), 0.001)
        time.sleep(0.05 + 0.02 * number)
        os.kill(world.engine.pid, signal.SIGTERM)
        time.sleep(0.005)
        begin = time.monotonic()
        world.stop(30)
        slowest = max(slowest, (time.monotonic() - begin) * 1e3)
    it.value("the slowest end of 10", slowest, 100, " ms")


def _wired(world, name):
    """Waits until a container is connected."""
    def is_wired():
        nodes = (world.status() or {"nodes": []})["nodes"]
        return any(x["name"] == name and x["state"] == "connected" for x in nodes)
    if not until(30, is_wired, 0.0005):
        raise Failed(f"{name} is not wired")


def routes(it, world):
    """Time to wire a container with 100,000 routes of its own, compared with one without."""
    world.file.write_text("links:\n- {service: h, bridge: lan, ip: 10.0.1.1/24, route: 10.9.0.0/16 via 10.0.1.200}\n")
    batch = "".join(f"route add 11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 dev dk0\n" for n in range(100_000))
    world.start()
    it.fact("it has listened", world.connected())
    times = {"without": [], "with": []}
    for number in range(20):
        kind = "with" if number % 2 else "without"
        process = world.process()
        if kind == "with":
            run("ip -b -", f"/proc/{process.pid}/ns/net", stdin=batch)
        # The kernel finishes earlier work in this time.
        time.sleep(0.5)
        begin = time.monotonic()
        _wired(world, world.start_container("h", number + 1, process=process).name)
        times[kind].append((time.monotonic() - begin) * 1e3)
    for kind, values in times.items():
        print(f"     {it.name}: {kind}: median {median(values):.1f} ms of {', '.join(f'{x:.1f}' for x in values)}")
    it.value("median with 100,000 routes over median without", median(times["with"]) / median(times["without"]), 1.2)


def hung_switch(it, world):
    """Links of other bridges while `ovs-vswitchd` hangs."""
    if not shutil.which("ovs-vswitchd"):
        print(f"SKIP {it.name}: there is no ovs-vswitchd")
        return
    world.file.write_text("bridges:\n- {bridge: lan, mode: linux}\n- {bridge: sw, mode: ovs}\nlinks:\n"
                          "- {service: h, bridge: lan, ip: 10.0.1.1/24}\n- {service: o, bridge: sw, ip: 10.0.2.1/24}\n")
    world.start_container("o")
    world.start()
    if not world.connected(60):
        print(f"SKIP {it.name}: Open vSwitch does not work here: {world.log().strip().splitlines()[-1:]}")
        return
    def wire(index):
        process = world.process()
        begin = time.monotonic()
        _wired(world, world.start_container("h", index, process=process).name)
        return (time.monotonic() - begin) * 1e3
    without = max(wire(index) for index in range(1, 6))
    pids = [int(x) for x in os.listdir("/proc") if x.isdigit()
            and Path(f"/proc/{x}/comm").read_text().strip() == "ovs-vswitchd"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        world.start_container("o", 2)
        time.sleep(0.05)
        hung = max(wire(index) for index in range(6, 11))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    print(f"     {it.name}: a link of another bridge, the slowest of 5: {without:.1f} ms without, {hung:.1f} ms with a hung switch")
    it.value("with a hung switch, more than without", hung - without, 100, " ms")


SCENARIOS = {f"measure/{function.__name__.replace('_', '-')}": function for function in (
    failing_link, bad_route, bad_route_in_a_lab, link_down, idle, answers, second_signal, routes, hung_switch)}


def perform(name, options, found):
    """Runs one measurement in a new world. Returns whether all limits were met."""
    folder = Path("/run/campaign/measure")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World(str(options.binary), found, folder, 0, options.slack)
    it = Measured(name)
    try:
        SCENARIOS[name](it, world)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        it.fact("it comes to its end", False, repr(error))
    finally:
        (options.logs / f"{name.replace('/', '-')}.log").write_text(world.log())
        world.close()
    return not it.missed
