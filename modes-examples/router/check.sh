#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when every host reaches every other one through the router.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

for to in 10.2.0.10 10.3.0.10; do node h1 ping -c 1 -W 1 "$to"; done
node h2 ping -c 1 -W 1 10.3.0.10 >/dev/null
# One hop: the router takes one from the 64 that the other end sends.
node h1 sh -c 'ping -c 1 -W 1 10.3.0.10 | grep ttl=63' >/dev/null
