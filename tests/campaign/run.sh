#!/usr/bin/env bash
# The campaign: rounds of kills, restarts and damage against a running conlink, and the measurements of the engine.
# usage: tests/campaign/run.sh [ROUNDS] [PATTERN] [--seed N] [--binary FILE] [--slack FACTOR] [--logs FOLDER] [--list]
#
# Needs root. Everything happens in network, process, mount, IPC and UTS namespaces that end with this command: the
# machine's own interfaces, processes and files are not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# A relative path in an argument is relative to the repository.
LOGS=target/campaign
mkdir -p "$LOGS"

# The shell is process 1 of the new process namespace: it reaps orphans, and its end ends everything.
# /run is empty, and /tmp is on a memory file system, so that no file of the machine is seen or changed.
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc bash -c '
    set -e
    mount -t tmpfs -o mode=755 none /run
    mkdir -p /run/netns /run/campaign
    ip link set lo up
    python3 -B tests/campaign/campaign.py "$@"
    exit $?
' campaign "$@"
