#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when LLDP and STP frames arrive as they were sent.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node s1 ping -c 1 -W 1 10.0.1.2
# Frames that a bridge keeps to itself, sent by one end and compared byte for byte at the other.
for pair in "s1 s2" "s2 s1"; do
    read -r from to <<<"$pair"
    timeout 20 python3 ../frames.py "$(node_pid "$from")" "$(node_pid "$to")"
done
