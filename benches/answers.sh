#!/usr/bin/env bash
# How the engine answers with 200 containers: status while they are wired, a link that is set down by hand, the second
# SIGTERM amid the wiring, and what an idle minute costs.
# usage: benches/answers.sh      as root; takes two minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
WORK=$(mktemp -d)
finish() {
    (cd "$WORK" && docker compose -p bench down -t 0 >/dev/null 2>&1) || true
    stop_dockerd
    rm -rf "$WORK"
}
install_packages docker.io busybox-static python3-minimal
install_compose
trap finish EXIT
start_dockerd
build_binary
make_node_image
cat >"$WORK/compose.yaml" <<'YAML'
services:
  node:
    image: conlink-node
    network_mode: none
    stop_grace_period: 0s
    scale: 200
    x-network:
      links:
        - {bridge: lan, ip: 10.0.0.1/16}
YAML
cd "$WORK"
docker compose -p bench up -d >/dev/null 2>&1
python3 - "$BINARY" <<'PY'
import json, signal, socket, subprocess, sys, time

BINARY = sys.argv[1]


def status():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/conlink/bench.sock")
        connection.sendall(b'{"request":"status"}\n')
        answer = b""
        while part := connection.recv(1 << 20):
            answer += part
    return json.loads(answer)["state"]


def until(state, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if status() == state:
                return
        except OSError:
            time.sleep(0.001)
    sys.exit(f"the engine is not {state} after {seconds} s")


def start():
    command = [BINARY, "--compose-file", "compose.yaml", "--compose-project", "bench"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def cpu(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


engine, times, state = start(), [], ""
while state != "connected":
    begin = time.monotonic()
    try:
        state = status()
    except OSError:
        continue
    times.append((time.monotonic() - begin) * 1e3)
times.sort()
print(f"status while 200 containers are wired: p50 {times[len(times) // 2]:.2f} ms, "
      f"p99 {times[len(times) * 99 // 100]:.2f} ms, most {times[-1]:.2f} ms of {len(times)}")
time.sleep(3)
before = cpu(engine)
time.sleep(60)
print(f"an idle minute: {cpu(engine) - before:.2f} s of CPU")
container = subprocess.check_output(["docker", "ps", "-q"], text=True).split()[0]
pid = subprocess.check_output(["docker", "inspect", "-f", "{{.State.Pid}}", container], text=True).strip()
told = []
for _ in range(20):
    subprocess.check_call(["nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "down"])
    begin = time.monotonic()
    until("drifted")
    told.append((time.monotonic() - begin) * 1e3)
    subprocess.check_call(["nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "up"])
    until("connected")
told.sort()
print(f"a link set down is told after: p50 {told[10]:.1f} ms, most {told[-1]:.1f} ms of 20")
engine.send_signal(signal.SIGTERM)
engine.wait()
ended = []
for at in range(10):
    time.sleep(1)
    engine = start()
    time.sleep(0.1 + 0.02 * at)
    engine.send_signal(signal.SIGTERM)
    time.sleep(0.005)
    begin = time.monotonic()
    engine.send_signal(signal.SIGTERM)
    engine.wait()
    ended.append((time.monotonic() - begin) * 1e3)
print(f"a second SIGTERM ends it after: most {max(ended):.1f} ms of 10")
engine = start()
until("connected")
engine.send_signal(signal.SIGTERM)
sys.exit(engine.wait())
PY
