#!/usr/bin/env bash
# The page of `net2dot --format html` in headless Chromium: real clicks, keys, drags, and a screenshot.
# Needs chromium and python3. CONLINK is the binary, SCREENSHOTS a folder to keep pictures in.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
    echo "SKIP net2dot in a browser: chromium is not there"
    exit 0
fi
CONLINK=${CONLINK:-$(find target -path '*debug/conlink' -type f | head -1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shots=${SCREENSHOTS:-$work}
failed=0

# Draws standard input, drives the page, and tells how it went.
drive() {
    local name=$1
    "$CONLINK" net2dot --format html -o "$work/$name.html" &&
        timeout 180 python3 tests/e2e/net2dot.py "$work/$name.html" "$shots/$name.png" || {
        echo "FAIL net2dot: $name"
        failed=1
    }
}

echo "== router"
drive router < <("$CONLINK" --compose-file modes-examples/router/compose.yaml --show-config)

# 20 bridges in a ring, nine containers on each, and one between each two.
large() {
    printf '{"services": {'
    for net in {0..19}; do
        for host in {1..9}; do
            printf '"host%s-%s": {"links": [{"bridge": "net%s", "ip": "10.%s.0.%s/24", "mac": "02:00:00:00:%02x:%02x", "mtu": 1500}]}, ' \
                "$net" "$host" "$net" "$net" "$host" "$net" "$host"
        done
        printf '"gw%s": {"links": [{"bridge": "net%s", "ip": "10.%s.0.254/24"}, {"bridge": "net%s", "dev": "eth1", "mac": "02:00:00:01:00:%02x", "mtu": 1500}]}' \
            "$net" "$net" "$net" "$(((net + 1) % 20))" "$net"
        [ "$net" = 19 ] || printf ', '
    done
    printf '}}'
}
# A ring of cables: lines that can be chosen like boxes.
ring() {
    printf '{"services": {'
    for at in {0..5}; do
        [ "$at" = 0 ] || printf ', '
        printf '"r%s": {"links": [{"bridge": {"bridge": "c%s", "mode": "patch"}, "ip": "10.0.%s.1/24", "mac": "02:00:00:02:00:%02x", "mtu": 1500}, ' \
            "$at" "$at" "$at" "$at"
        printf '{"bridge": {"bridge": "c%s", "mode": "patch"}, "dev": "eth1"}]}' "$(((at + 1) % 6))"
    done
    printf '}}'
}
echo "== a ring of cables"
drive ring < <(ring)
echo "== 200 containers on 20 bridges"
drive large < <(large)
[ "$failed" = 0 ] && echo "1 passed, 0 failed" || echo "0 passed, 1 failed"
exit "$failed"
