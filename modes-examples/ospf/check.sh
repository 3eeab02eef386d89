#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when OSPF has found the way, and another one without the cable
# between r1 and r3.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node r1 birdc show ospf neighbors
# Two hops: each router takes one from the 64 that the other end sends.
node h1 sh -c 'ping -c 1 -W 1 10.3.0.10 | grep ttl=62'
docker compose exec -T network conlink link down r1:eth2
node h1 sh -c 'ping -c 1 -W 1 10.3.0.10 | grep ttl=61'
docker compose exec -T network conlink link up r1:eth2
