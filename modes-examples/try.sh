#!/usr/bin/env bash
# Runs an example on this machine from a fresh clone: builds conlink, starts the example, checks it and removes it.
# usage: try.sh [EXAMPLE]             in a lab: needs cargo and no privilege
#        try.sh --docker [EXAMPLE]    in containers: as root on Debian; installs Docker and compose if they are missing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
docker=
[ "${1-}" != --docker ] || { docker=1 && shift; }
example=${1:-router}
[ -f "$example/compose.yaml" ] || {
    echo "unknown example $example; examples:" */compose.yaml >&2
    exit 2
}

in_lab() {
    echo "building conlink: up to three minutes the first time" >&2
    # The release profile optimizes for several minutes.
    cargo build --profile quick --bin conlink
    local binary
    binary=$(realpath "${CARGO_TARGET_DIR:-../target}")/$(rustc --print host-tuple)/quick/conlink
    cd "$example"
    # shellcheck disable=SC2016 # the command's own variables
    exec "$binary" lab run -- sh -euc '
        echo
        "$CONLINK" lab status
        echo
        "$CONLINK" lab ping
        if [ "$1" = router ]; then
            echo
            "$CONLINK" lab ping h1 h3
        fi
        echo
        echo "example $1 works; its description: modes-examples/$1/compose.yaml"
        echo "to keep it running: cd modes-examples/$1 && $2 lab up"
    ' try "$example" "$binary"
}

in_containers() {
    # shellcheck source=tests/e2e/setup.sh
    . ../tests/e2e/setup.sh
    finish() {
        local code=$?
        docker compose down >/dev/null 2>&1 || true
        stop_dockerd
        exit "$code"
    }
    install_packages docker.io busybox-static bird2 python3-minimal
    install_compose
    trap finish EXIT
    start_dockerd
    say "building conlink"
    build_binary
    make_node_image
    make_bird_image
    make_images
    cd "$example"
    say "starting example $example"
    docker compose up -d >"$SETUP_DIR/up.log" 2>&1 || {
        cat "$SETUP_DIR/up.log" >&2
        exit 1
    }
    local code=0
    bash check.sh || code=1
    echo
    docker compose exec -T "$(docker compose ps --services | awk '$0 != "network" && !found++')" ip -o addr show eth0 || code=1
    echo
    docker logs "$(docker compose ps -aq network)" 2>&1 | tail -5
    [ "$code" = 0 ] || exit 1
    echo "example $example works; its description: modes-examples/$example/compose.yaml"
}

if [ -n "$docker" ]; then in_containers; else in_lab; fi
