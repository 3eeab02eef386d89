#!/usr/bin/env bash
# How soon `wait` is the command: from an event (an interface is there, has an address, a route; a file is there) to the
# command's first output, against a shell that looks once a second; its start against /bin/true; what it holds in memory.
# usage: benches/wait.sh [RUNS]      as root; events of each kind, 200 if not said
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
install_packages iproute2 python3-minimal
build_binary
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
unshare -n python3 - "$BINARY" "$WORK" "${1:-200}" <<'PY'
import ctypes, fcntl, os, random, socket, statistics, struct, subprocess, sys, time
binary, work, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
NULL = subprocess.DEVNULL
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

def ip(args):
    subprocess.run(["ip", *args.split()], check=True, stderr=NULL)

def inet(addr):
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(addr))

# Each event is one system call of ours, so that it has a moment.
def rename():
    fcntl.ioctl(control, 0x8923, struct.pack("16s16s8x", b"tmp0", b"wait0"))  # SIOCSIFNAME

def address():
    fcntl.ioctl(control, 0x8916, struct.pack("16s", b"eth0") + inet("10.0.0.1") + bytes(8))  # SIOCSIFADDR

def route():
    # SIOCADDRT with struct rtentry: pad, destination, gateway, mask, flags (up), paddings, metric, device
    device = ctypes.create_string_buffer(b"eth0")
    pointer = ctypes.addressof(device)
    entry = struct.pack("L16s16s16sHhLPhPLLH6x", 0, inet("10.9.0.0"), inet("0.0.0.0"), inet("255.255.0.0"), 1, 0,
                        0, 0, 0, pointer, 0, 0, 0)
    fcntl.ioctl(control, 0x890B, entry)

def file():
    os.close(os.open(f"{work}/file", os.O_CREAT))

# What is waited for, the event, what makes it undone, and how a shell looks for it.
KINDS = {
    "interface": (["-i", "wait0"], rename, lambda: ip("link set wait0 name tmp0"), "ip link show wait0"),
    "address": (["--addr", "10.0.0.1"], address, lambda: ip("addr flush dev eth0"), "ip addr show eth0 | grep 10.0.0.1/"),
    "route": (["--route", "10.9.0.0/16"], route, lambda: ip("route del 10.9.0.0/16"), "ip route show 10.9.0.0/16 | grep ."),
    "file": (["-f", f"{work}/file"], file, lambda: os.unlink(f"{work}/file"), f"test -e {work}/file"),
}
ip("link set lo up")
ip("link add tmp0 type bridge")
ip("link add eth0 type veth peer name peer")
ip("link set peer up")
ip("link set eth0 up")

def latency(command, event, ready):
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ready(child)
    start = time.monotonic()
    event()
    child.stdout.read(1)
    took = (time.monotonic() - start) * 1e3
    child.communicate()
    return took

def summary(values):
    values = sorted(values)
    return statistics.median(values), values[min(len(values) - 1, int(len(values) * 0.99))]

def waits(child):
    child.stderr.readline()
    time.sleep(0.002)

echo = latency(["/bin/echo"], lambda: None, lambda child: None)
print(f"events to the command's first output, which takes /bin/echo {echo:.1f} ms after its start:")
for kind, (args, event, undo, look) in KINDS.items():
    took = []
    for _ in range(runs):
        took.append(latency([binary, "wait", *args, "--", "/bin/echo"], event, waits))
        undo()
    polled = []
    loop = f"until {look}; do sleep 1; done >/dev/null 2>&1; exec /bin/echo"
    for _ in range(max(5, runs // 20)):
        polled.append(latency(["sh", "-c", loop], event, lambda _: time.sleep(0.05 + random.random())))
        undo()
    (median, p99), (slow, slowest) = summary(took), summary(polled)
    print(f"  {kind:9} median {median:6.2f} ms, p99 {p99:6.2f} ms of {runs}; "
          f"a loop of 1 s: median {slow:6.0f} ms, most {slowest:6.0f} ms; {slow / median:.0f} times as soon")

def spawn(command):
    start = time.monotonic()
    subprocess.run(command, stderr=NULL)
    return (time.monotonic() - start) * 1e3

pairs = [(spawn([binary, "wait", "-q", "-i", "lo", "--", "/bin/true"]), spawn(["/bin/true"])) for _ in range(300)]
ours, true = (statistics.median(it) for it in zip(*pairs))
print(f"start: {ours - true:.2f} ms more than /bin/true's {true:.2f} ms, median of 300")

for args in (["-i", "none"], ["-I", "none"], ["-f", f"{work}/none/x"], ["-t", "127.0.0.1:1"],
             ["--any", "-i", "none", "-f", f"{work}/none", "-t", "localhost:1", "-c", "false"]):
    child = subprocess.Popen([binary, "wait", "-q", *args])
    time.sleep(0.5)
    with open(f"/proc/{child.pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    child.terminate()
    child.wait()
    now, most = (int(fields[it].split()[0]) / 1024 for it in ("VmRSS", "VmHWM"))
    print(f"resident: {now:.2f} MiB, at most {most:.2f} MiB ({' '.join(it.replace(work, '') for it in args)})")
PY
