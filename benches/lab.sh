#!/usr/bin/env bash
# `conlink lab up` and `lab down` against mininet doing the same: 100 nodes on one bridge, and 100 nodes in a chain of 99
# links, the same addresses on their interfaces; then 500 nodes on one bridge, conlink alone. They take turns in one pid,
# net and mount namespace, so that what either leaves behind is seen: processes, namespaces, interfaces, mounts, the lab's
# folder.
# usage: benches/lab.sh [RUNS]      as root; prints a table, the median of RUNS pairs (5 if not said)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
RUNS=${1:-5}
install_packages mininet bridge-utils iproute2 util-linux python3
build_binary
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# What mininet runs: it says how long its network took to be there, waits for a line, and says how long the end took.
cat >"$WORK/other.py" <<'PY'
import sys, time
from mininet import net as mininet_net
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import Topo
# It would raise limits of the whole machine (sysctls), and leave them so.
mininet_net.fixLimits = lambda: None
shape, count = sys.argv[1], int(sys.argv[2])

class Shape(Topo):
    def build(self):
        if shape == "bridge":
            bridge = self.addSwitch("s1")
            for it in range(1, count + 1):
                self.addLink(self.addHost(f"n{it}", ip=f"10.0.{it // 250}.{it % 250}/16"), bridge)
            return
        for it in range(1, count + 1):
            self.addHost(f"n{it}", ip=None)
        for it in range(1, count):
            self.addLink(f"n{it}", f"n{it + 1}", params1={"ip": f"10.1.{it}.1/24"}, params2={"ip": f"10.1.{it}.2/24"})

topo = Shape()
start = time.monotonic()
net = Mininet(topo=topo, switch=LinuxBridge, controller=None, build=False)
net.build()
net.start()
print(time.monotonic() - start, flush=True)
sys.stdin.readline()
start = time.monotonic()
net.stop()
print(time.monotonic() - start, flush=True)
PY

cat >"$WORK/bench.py" <<'PY'
import glob, os, statistics, subprocess, sys, time
binary, work, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
LAB = "bench"
log = open(f"{work}/log", "w+")

def fail(message):
    log.flush()
    log.seek(0)
    sys.stderr.write("".join(log.readlines()[-20:]))
    sys.exit(f"{message}; the end of what was said is above")

def compose(shape, count):
    path = f"{work}/{shape}{count}.yaml"
    with open(path, "w") as file:
        file.write("services:\n")
        for it in range(1, count + 1):
            if shape == "bridge":
                links = [f"{{bridge: lan, ip: 10.0.{it // 250}.{it % 250}/16}}"]
            else:
                before = [f"{{bridge: p{it - 1}, dev: eth0, ip: 10.1.{it - 1}.2/24}}"] if it > 1 else []
                after = [f"{{bridge: p{it}, dev: eth1, ip: 10.1.{it}.1/24}}"] if it < count else []
                links = before + after
            file.write(f"  n{it}: {{x-network: {{links: [{', '.join(links)}]}}}}\n")
        if shape == "chain":
            patches = ", ".join(f"{{bridge: p{it}, mode: patch}}" for it in range(1, count))
            file.write(f"x-network: {{bridges: [{patches}]}}\n")
    return path

def namespaces():
    found = {}
    for path in glob.glob("/proc/[0-9]*/ns/*"):
        try:
            found.setdefault(os.readlink(path), path)
        except OSError:
            pass  # the process has ended
    return found

def state():
    """All that a lab could leave behind in this pid, net and mount namespace."""
    processes = set()
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                name = file.read()
                processes.add("process " + name[: name.rindex(")") + 1])
        except OSError:
            pass
    with open("/proc/self/mountinfo") as file:
        mounts = {"mount " + line.split()[4] for line in file}
    names = {f"namespace {it}" for it in namespaces()}
    interfaces = {f"interface {it}" for it in os.listdir("/sys/class/net")}
    folders = {f"folder {it}" for it in glob.glob("/run/conlink/lab/*")}
    return processes | names | interfaces | mounts | folders

def left(before):
    """What is there beyond that, once the kernel has had its time."""
    end = time.monotonic() + 10
    while True:
        # We are process 1 here: orphans are ours to bury.
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        more = state() - before
        if not more or time.monotonic() > end:
            return sorted(more)
        time.sleep(0.02)

def check(shape, count):
    """Are the nodes there, each with its addresses on interfaces that are up?"""
    addresses = 0
    own = os.readlink("/proc/self/ns/net")
    for name, path in namespaces().items():
        if name.startswith("net:") and name != own:
            shown = subprocess.run(["nsenter", f"--net={path}", "ip", "-4", "-o", "addr", "show", "up", "scope", "global"],
                                   capture_output=True, text=True, check=True)
            addresses += len(shown.stdout.splitlines())
    expected = count if shape == "bridge" else 2 * (count - 1)
    if addresses != expected:
        fail(f"{addresses} addresses are there, not {expected}")

def conlink(shape, count, first=False):
    path = compose(shape, count)
    def run(*args):
        start = time.monotonic()
        # Not a pipe: what stays in the background would hold it open.
        ended = subprocess.run([binary, "lab", *args, "--name", LAB], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        took = time.monotonic() - start
        if ended.returncode != 0:
            fail(f"conlink lab {' '.join(args)} ends with {ended.returncode}")
        return took
    up = run("up", "--compose-file", path)
    if first:
        check(shape, count)
    down = run("down")
    return {"up": up, "down": down, "whole": up + down}

def mininet(shape, count, first=False):
    start = time.monotonic()
    child = subprocess.Popen(["/usr/bin/python3", f"{work}/other.py", shape, str(count)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=log, text=True)
    up = child.stdout.readline()
    pause = time.monotonic()
    if first and up:
        check(shape, count)
    pause = time.monotonic() - pause
    down = child.communicate("\n")[0]
    whole = time.monotonic() - start - pause
    if child.returncode != 0 or not up or not down:
        fail(f"mininet ends with {child.returncode}")
    up, down = float(up), float(down)
    return {"up": up, "down": down, "whole": whole, "rest": whole - up - down}

leftovers = {"conlink": set(), "mininet": set()}

def turn(tool, shape, count, first=False):
    before = state()
    took = tool(shape, count, first)
    leftovers[tool.__name__].update(left(before))
    # The kernel takes namespaces apart in the background: let it be done with them.
    time.sleep(2)
    return took

def ms(times):
    return f"{statistics.median(times) * 1e3:.0f}"

def spread(ratios):
    return f"{statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"

print(f"| what | conlink, ms | mininet, ms | mininet / conlink, median of {runs} | least | most |")
print("|---|---|---|---|---|---|", flush=True)
base = []
for shape, text in [("bridge", "100 nodes on one bridge"), ("chain", "100 nodes in a chain of 99 links")]:
    # The first pair warms caches, and is looked at.
    turn(conlink, shape, 100, first=True)
    turn(mininet, shape, 100, first=True)
    pairs = [(turn(conlink, shape, 100), turn(mininet, shape, 100)) for _ in range(runs)]
    base = base or [ours for ours, _ in pairs]
    for key, step in [("up", "up"), ("down", "down"), ("whole", "up and down, whole processes")]:
        ratios = [theirs[key] / ours[key] for ours, theirs in pairs]
        print(f"| {text}: {step} | {ms([it[key] for it, _ in pairs])} | {ms([it[key] for _, it in pairs])} | {spread(ratios)} |")
    print(f"| {text}: Python's start and end | | {ms([it['rest'] for _, it in pairs])} | | | |", flush=True)
print()
print(f"| conlink alone | ms | times 100 nodes, median of {runs} | least | most |")
print("|---|---|---|---|---|", flush=True)
turn(conlink, "bridge", 500, first=True)
large = [turn(conlink, "bridge", 500) for _ in range(runs)]
for key in ["up", "down"]:
    ratios = [it[key] / small[key] for it, small in zip(large, base)]
    print(f"| 500 nodes on one bridge: {key} | {ms([it[key] for it in large])} | {spread(ratios)} |")
print()
for tool, found in leftovers.items():
    print(f"left behind by {tool}: {', '.join(sorted(found)) or 'nothing'}")
sys.exit(1 if leftovers["conlink"] else 0)
PY

# shellcheck disable=SC2016
unshare --mount --net --pid --fork --kill-child --mount-proc sh -c '
    mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && ip link set lo up && exec /usr/bin/python3 "$@"' \
    sh "$WORK/bench.py" "$BINARY" "$WORK" "$RUNS"
