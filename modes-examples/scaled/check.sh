#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when each replica has addresses of its own.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

for index in 1 2 3; do
    INDEX=1 node server ping -c 1 -W 1 "10.0.1.$((99 + index))"
    INDEX=$index node worker sh -c "ip addr show eth0 | grep 02:00:0a:00:01:6$((3 + index))" >/dev/null
    INDEX=$index node worker sh -c "ip addr show eth1 | grep 10.9.$index.1/24" >/dev/null
done
