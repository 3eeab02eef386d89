#!/usr/bin/env bash
# One interface for one running namespace: bridge, address and gateway by `conlink attach`, by the commands of `ip` that do the
# same, and, if a docker daemon answers, for a container found by its name.
# usage: benches/attach.sh [RUNS]      as root; BINARY=FILE for another binary; prints medians and their ratios
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh
RUNS=${1:-30}
[ -n "${BINARY:-}" ] || build_binary
[ "${INSIDE:-}" ] || exec env INSIDE=1 BINARY="$BINARY" unshare --mount --net "$0" "$@"
mount -t tmpfs none /run
ip link set lo up

# Milliseconds of a command, with three decimals.
took() {
    local start end
    start=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    printf '%d.%03d\n' $(((end - start) / 1000000)) $(((end - start) / 1000 % 1000))
}
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

by_conlink() { "$BINARY" attach "$1" --bridge br1 --ip "10.0.$2.2/24" --gw "10.0.$2.1"; }
by_ip() {
    ip link add "v$1" type veth peer name eth1 netns "$1"
    ip link set "v$1" master br1 up
    ip -n "$1" addr add "10.0.$2.2/24" brd + dev eth1
    ip -n "$1" link set eth1 up
    ip -n "$1" route replace default via "10.0.$2.1" dev eth1
}
ip link add br1 type bridge
ip link set br1 up
for it in $(seq "$RUNS"); do
    ip netns add "c$it"
    ip netns add "i$it"
done
conlink=$(for it in $(seq "$RUNS"); do took by_conlink "c$it" "$it"; done | median)
again=$(for it in $(seq "$RUNS"); do took by_conlink "c$it" "$it"; done | median)
undo=$(for it in $(seq "$RUNS"); do took "$BINARY" detach "c$it"; done | median)
ip=$(for it in $(seq "$RUNS"); do took by_ip "i$it" "$it"; done | median)
nothing=$(for it in $(seq "$RUNS"); do took true; done | median)
awk -v c="$conlink" -v a="$again" -v u="$undo" -v i="$ip" -v t="$nothing" 'BEGIN {
    printf "attach %.1f ms, the same again %.1f ms, detach %.1f ms, five calls of ip %.1f ms (timing itself %.1f ms)\n", c, a, u, i, t
    printf "attach takes %.2f of the time of ip\n", c / i
}'
