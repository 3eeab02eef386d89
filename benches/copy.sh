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
    print(f"{what}: {statistics.median(ratios):.2f} times cp -a "
          f"(least {ratios[0]:.2f}, most {ratios[-1]:.2f} of {runs}{bound})")

LINE = "a line of text as configuration files and pages have them\n"
for tree, text in (("plain", LINE), ("templates", "{{NAME}} and {{UNSET}}\n" + LINE * 9)):
    for it in range(10_000):
        os.makedirs(f"{tree}/{it // 100:03}", exist_ok=True)
        with open(f"{tree}/{it // 100:03}/{it % 100:03}", "w") as file:
            file.write((text * 200)[: 500 + it % 100 * 100])

def in_turns(number, first, second):
    """Both, the other one first each time; the answers in the order given."""
    if number % 2:
        return first(), second()
    late = second()
    return first(), late

anew, again, template, template_again = [], [], [], []
for number in range(runs + 1):
    for tree, options, new, unchanged in (("plain", [], anew, again), ("templates", ["-T"], template, template_again)):
        os.sync()
        dst, other = folder(), folder()
        pair = in_turns(number, lambda: ours(*options, tree, dst), lambda: took("cp", "-a", f"{tree}/.", other))
        new.append(pair)
        unchanged.append((ours(*options, tree, dst), pair[1]))
report("10,000 small files", anew, 1.0)
report("10,000 small files, nothing changed", again, 0.3)
report("10,000 small templates", template)
report("10,000 small templates, nothing changed", template_again)
for it in os.listdir("."):
    shutil.rmtree(it)

os.mkdir("large")
block = os.urandom(1 << 20)
with open("large/file", "wb") as file:
    for _ in range(1024):
        file.write(block)
os.mkdir("text")
block = ("{{NAME}} and {{UNSET}}\n" + LINE * 9).encode() * 2048
with open("text/file", "wb") as file:
    while file.tell() < 1 << 30:
        file.write(block)

def alone(work):
    """Starts from a file system that has nothing left to write."""
    os.sync()
    time.sleep(1)
    dst = folder()
    first, second = work(dst)
    shutil.rmtree(dst)
    return first, second

large, large_again, text = [], [], []
for number in range(runs + 1):
    for tree, options, new in (("large", [], large), ("text", ["-T"], text)):
        def copy(dst):
            return ours(*options, tree, dst), ours(*options, tree, dst)
        (first, again), (cp, _) = in_turns(
            number, lambda: alone(copy), lambda: alone(lambda dst: (took("cp", "-a", f"{tree}/.", dst), None)))
        new.append((first, cp))
        if tree == "large":
            large_again.append((again, cp))
report("1 GiB", large, 1.05)
report("1 GiB, nothing changed", large_again)
report("1 GiB of templates", text)
PY
