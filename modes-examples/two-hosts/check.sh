#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when the two hosts reach each other.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node h1 ping -c 3 -i 0.2 -W 1 10.0.1.2
node h2 ping -c 1 -W 1 10.0.1.1 >/dev/null
