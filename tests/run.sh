#!/usr/bin/env bash
# Every tier of tests, on a fresh Debian machine as root, with cargo: installs what they need, starts what they need,
# stops what it started. The last line counts them all.
set -uo pipefail
# A shell without job control starts a job in the background with SIGINT and SIGQUIT ignored, and so would every test be.
if [ -z "${CONLINK_TEST_SIGNALS:-}" ]; then
    CONLINK_TEST_SIGNALS=default exec env --default-signal "${BASH_SOURCE[0]}" "$@"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh

LOG=$(mktemp)
passed=0 failed=0 skipped=0

# Runs a gate that counts as one test.
gate() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
    fi
}

# Runs a tier that prints its own counts, which are added up.
tier() {
    local name=$1 code line
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$LOG"
    code=${PIPESTATUS[0]}
    local tier_failed=0
    while read -r line; do
        passed=$((passed + $(sed -E 's/^[^0-9]*([0-9]+) passed.*/\1/' <<<"$line")))
        tier_failed=$((tier_failed + $(sed -E 's/.* ([0-9]+) failed.*/\1/' <<<"$line")))
    done < <(grep -E '^(test result: .* )?[0-9]+ passed[;,] [0-9]+ failed|^test result: ' "$LOG" | sed 's/;/,/g')
    skipped=$((skipped + $(grep -c '^SKIP ' "$LOG")))
    # A tier that ended badly without a failed test has failed as a whole.
    if [ "$code" != 0 ] && [ "$tier_failed" = 0 ]; then
        tier_failed=1
        echo "FAIL $name: exit code $code"
    fi
    failed=$((failed + tier_failed))
}

install_packages iproute2 busybox-static bird2 ethtool nftables iptables openvswitch-switch graphviz librsvg2-bin chromium python3 \
    dnsmasq-base udhcpc isc-dhcp-client dhcpcd-base || exit 1
gate "formatted" cargo fmt --check
gate "no lint" cargo clippy --quiet --all-targets -- -D warnings
tier "unit, golden, black box and namespace tests" cargo test --quiet --no-fail-fast
tier "end to end" tests/e2e/run.sh
tier "a drawn network in a browser" tests/e2e/net2dot.sh
tier "a drawn network read by Mermaid" tests/e2e/mermaid.sh
tier "the schema in an editor" tests/e2e/editor.sh
tier "namespace tests on the full kernel, in a virtual machine" tests/vm/run.sh
rm -f "$LOG"
echo
[ "$skipped" = 0 ] || echo "$skipped skipped, for the reasons above"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
