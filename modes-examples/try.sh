#!/usr/bin/env bash
# Shows an example on this machine, from nothing: installs what it needs, builds, starts, checks, takes down.
# usage: try.sh [EXAMPLE]      as root on Debian, with cargo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
example=${1:-two-hosts}
[ -f "$example/compose.yaml" ] || {
    echo "there is no example $example; there are:" */compose.yaml >&2
    exit 2
}
# shellcheck source=tests/e2e/setup.sh
. ../tests/e2e/setup.sh
finish() {
    local code=$?
    docker compose down >/dev/null 2>&1 || true
    stop_dockerd
    exit "$code"
}
install_packages docker.io busybox-static python3-minimal
install_compose
trap finish EXIT
start_dockerd
say "building conlink"
build_binary
make_node_image
make_image
cd "$example"
say "starting example $example"
docker compose up -d >"$SETUP_DIR/up.log" 2>&1 || {
    cat "$SETUP_DIR/up.log" >&2
    exit 1
}
code=0
bash check.sh || code=1
echo
docker compose exec -T "$(docker compose ps --services | awk '$0 != "network" && !found++')" ip -o addr show eth0 || code=1
echo
docker logs "$(docker compose ps -aq network)" 2>&1 | tail -5
[ "$code" = 0 ] || exit 1
echo "example $example works; its description: modes-examples/$example/compose.yaml"
