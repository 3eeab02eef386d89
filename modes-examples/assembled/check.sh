#!/usr/bin/env bash
# Called when the project is up (`mdc all up -d`), in this folder: exits 0 when hosts reach the web server's page through the router.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node h ping -c 1 -W 1 10.2.0.10
INDEX=2 node h ping -c 1 -W 1 10.2.0.10 >/dev/null
node h sh -c 'wget -q -O - http://10.2.0.10/ && wget -q -O - http://10.2.0.10/about.html'
