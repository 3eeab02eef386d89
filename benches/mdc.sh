#!/usr/bin/env bash
# How long mdc takes on five modes and on 200, each with dependencies, a compose file, variables and files: with everything new,
# and with everything there. Against `true`, in one run.
# usage: benches/mdc.sh [RUNS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --release --quiet
BINARY=$PWD/target/$(rustc --print host-tuple)/release/conlink
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 - "$BINARY" "${1:-200}" <<'PY'
import os, shutil, statistics, subprocess, sys, time
binary, runs = sys.argv[1], int(sys.argv[2])

def make(count):
    root = f"p{count}"
    for it in range(count):
        mode, service = f"{root}/modes/m{it}", f"svc{it % 10}"
        os.makedirs(f"{mode}/{service}/files/etc")
        files = {
            "deps": f"m{it - 1}\n" if it else "",
            "env": f"V{it}={it}\nW=${{W}}x\n",
            "compose.yaml": f"services:\n  s{it}:\n    image: img{it}\n    environment: {{A: '{it}'}}\n"
                            f"    volumes: ['./.files/{service}:/files:ro']\n"
                            f"    x-network:\n      links: [{{bridge: lan, ip: 10.0.{it}.1/16}}]\n",
            f"{service}/files/etc/conf{it}": "x" * 500,
        }
        for name, text in files.items():
            with open(f"{mode}/{name}", "w") as file:
                file.write(text)
    return root

def wall(args, root):
    begun = time.perf_counter()
    subprocess.run(args, cwd=root, check=True, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1e3

for count in (5, 200):
    root = make(count)
    new, there, floor = [], [], []
    for _ in range(runs):
        shutil.rmtree(f"{root}/.files", ignore_errors=True)
        floor.append(wall(["/bin/true"], root))
        new.append(wall([binary, "mdc", f"m{count - 1}"], root))
        there.append(wall([binary, "mdc", f"m{count - 1}"], root))
    middle = statistics.median
    print(f"{count:3} modes: {middle(new):.1f} ms all new, {middle(there):.1f} ms all there; true {middle(floor):.1f} ms")
PY
