#!/usr/bin/env bash
# `copy` against `cp -a`, in turns: 10,000 small files anew and once more, as they are and as templates; 1 GiB.
# usage: benches/copy.sh [RUNS]      prints ratios, the median of RUNS pairs; needs 4 GiB where TMPDIR is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
install_packages python3-minimal
build_binary
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 - "$BINARY" "$WORK" "${1:-7}" <<'PY'
import os, shutil, statistics, subprocess, sys, time
binary, work, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(work)
environment = {"PATH": os.environ["PATH"], "NAME": "a value", "OTHER": "x"}
folders = 0

def folder():
    # Always another one: ext4 is slow for some seconds where much was deleted.
    global folders
    folders += 1
    os.mkdir(f"dst{folders}")
    return f"dst{folders}"

def took(*command):
    start = time.monotonic()
    subprocess.run(command, check=True, env=environment)
    return time.monotonic() - start

def ours(*args):
    return took(binary, "copy", "-q", *args)

def report(what, pairs, bound=None):
    # The first pair warms caches.
    ratios = sorted(a / b for a, b in pairs[1:])
    bound = f", bound {bound}" if bound else ""
    print(f"{what}: {statistics.median(ratios):.2f} times cp -a (least {ratios[0]:.2f}, most {ratios[-1]:.2f} of {runs}{bound})")

for tree, text in (("plain", "line of a small file\n"), ("templates", "line {{NAME}} of {{OTHER}} {{UNSET}}\n")):
    for it in range(10_000):
        os.makedirs(f"{tree}/{it // 100:03}", exist_ok=True)
        with open(f"{tree}/{it // 100:03}/{it % 100:03}", "w") as file:
            file.write(text * (20 + it % 200))
anew, again, template, template_again = [], [], [], []
for _ in range(runs + 1):
    os.sync()
    dst = folder()
    cp = took("cp", "-a", "plain/.", folder())
    anew.append((ours("plain", dst), cp))
    again.append((ours("plain", dst), cp))
    dst = folder()
    cp = took("cp", "-a", "templates/.", folder())
    template.append((ours("-T", "templates", dst), cp))
    template_again.append((ours("-T", "templates", dst), cp))
report("10,000 small files", anew, 1.0)
report("10,000 small files, nothing changed", again, 0.3)
report("10,000 small templates", template)
report("10,000 small templates, nothing changed", template_again)
for it in os.listdir("."):
    shutil.rmtree(it)

os.mkdir("large")
block = os.urandom(1 << 20)
with open("large/file", "wb") as file:
    for it in range(1024):
        file.write(block)
os.mkdir("text")
line = b"a line of text, {{NAME}} and {{UNSET}}, as there are many of them in this file\n"
block = line * (1 << 14)
with open("text/file", "wb") as file:
    while file.tell() < 1 << 30:
        file.write(block)
large, large_again, text = [], [], []

def once(tree, options, pairs, again=None):
    os.sync()
    dst = folder()
    cp = took("cp", "-a", f"{tree}/.", dst)
    shutil.rmtree(dst)
    os.sync()
    dst = folder()
    pairs.append((ours(*options, tree, dst), cp))
    if again is not None:
        again.append((ours(*options, tree, dst), cp))
    shutil.rmtree(dst)

for _ in range(runs + 1):
    once("large", [], large, large_again)
    once("text", ["-T"], text)
report("1 GiB", large, 1.05)
report("1 GiB, nothing changed", large_again)
report("1 GiB of templates", text)
PY
