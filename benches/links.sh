#!/usr/bin/env bash
# Links a second against the kernel's floor, in one run: 20, 200 and 1000 links of running containers, from the engine's
# start to `All links connected`, its inspections included; and what the engine holds in memory then.
# usage: benches/links.sh [RUNS]      as root; prints ratios, the median of RUNS pairs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
RUNS=${1:-7}
WORK=$(mktemp -d)
finish() {
    (cd "$WORK" && docker compose -p bench down -t 0 >/dev/null 2>&1) || true
    stop_dockerd
    rm -rf "$WORK"
}
install_packages docker.io busybox-static gcc libc6-dev linux-libc-dev python3-minimal
install_compose
trap finish EXIT
start_dockerd
build_binary
make_node_image
cc -O2 -o "$WORK/floor" benches/floor.c

# So many containers with so many links each, each link of one on a bridge of its own.
measure() {
    local containers=$1 links=$2 it
    {
        printf 'services:\n  node:\n    image: conlink-node\n    network_mode: none\n    stop_grace_period: 0s\n'
        printf '    scale: %s\n    x-network:\n      links:\n' "$containers"
        for it in $(seq 0 $((links - 1))); do
            printf '        - {bridge: lan%s, dev: eth%s, ip: 10.%s.0.1/16}\n' "$it" "$it" "$it"
        done
    } >"$WORK/compose.yaml"
    (cd "$WORK" && docker compose -p bench up -d >/dev/null 2>&1)
    (cd "$WORK" && python3 - "$BINARY" "$containers" "$links" "$RUNS" <<'PY'
import signal, statistics, subprocess, sys, time
binary, containers, links, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
ratios, memory, per_link = [], [], []
for _ in range(runs + 1):
    floor = float(subprocess.run(["./floor", containers, links], capture_output=True, check=True).stdout)
    # The namespaces of the floor go in the background: let the kernel be done with them.
    time.sleep(1.5)
    start = time.monotonic()
    engine = subprocess.Popen([binary, "--compose-file", "compose.yaml", "--compose-project", "bench"],
                              stderr=subprocess.PIPE, text=True)
    for line in engine.stderr:
        if line.startswith("All links connected"):
            break
    wall = (time.monotonic() - start) * 1e3
    with open(f"/proc/{engine.pid}/status") as status:
        memory.append(next(int(it.split()[1]) for it in status if it.startswith("VmHWM")))
    engine.send_signal(signal.SIGTERM)
    engine.wait()
    time.sleep(1.5)
    ratios.append(wall / floor)
# The first pair warms caches.
ratios = sorted(ratios[1:])
count = int(containers) * int(links)
print(f"{count:5} links: {statistics.median(ratios):.2f} times the floor "
      f"(least {ratios[0]:.2f}, most {ratios[-1]:.2f} of {runs}), {max(memory) / 1024:.1f} MiB resident at most")
PY
    )
}

measure 20 1
measure 200 1
measure 200 5
