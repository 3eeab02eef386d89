#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when the parts have become one network.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node h1 ping -c 1 -W 1 10.0.1.2 >/dev/null
node h1 ping -c 1 -W 1 10.9.0.3
eventually sh -c "docker logs $(docker compose ps -q network) 2>&1 | grep 'h2-1: h2 has 2 links'"
