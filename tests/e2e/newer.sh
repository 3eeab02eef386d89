#!/usr/bin/env bash
# The end-to-end tier against newer engines: Docker and Podman of Debian's suite sid.
# usage: tests/e2e/newer.sh [docker|podman] [PATTERN]      only that engine, only the scenarios with PATTERN in their names
#
# Needs root. The engines run from a root file system in target/newer/root, which is kept for the next time: remove it to
# get the suite's current packages. Each run has network, process and mount namespaces of its own, which end with it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh

NEWER=$ROOT/target/newer
case ${1:-} in
    docker | podman) ENGINES=("$1") && shift ;;
    *) ENGINES=(docker podman) ;;
esac

# The root file system that has the engines.
make_root() {
    [ -d "$NEWER/root" ] && return 0
    say "making a root file system of Debian sid"
    # The index of a suite that a mirror keeps as it was on some day has expired.
    mmdebstrap --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase \
        --include=docker.io,podman,netavark,crun,iproute2,iptables,busybox-static,procps \
        sid "$NEWER/root.new" "$(package_source sid "$NEWER")" >"$NEWER/log" 2>&1 && mv "$NEWER/root.new" "$NEWER/root" || {
        tail -20 "$NEWER/log" >&2
        rm -rf "$NEWER/root.new"
        return 1
    }
    mkdir -p "$NEWER/root/etc/containers"
    # Limits that need not be raised, which a machine in a container may not do; the capabilities that Docker gives, NET_RAW for
    # `ping` among them; runc, since crun takes no hybrid control groups.
    cat >"$NEWER/root/etc/containers/containers.conf" <<'TOML'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
default_capabilities = ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
TOML
}

# Programs that run.sh finds before the machine's own: they run in the mount namespace of process $HOLDER.
make_programs() {
    local name
    mkdir -p "$NEWER/$1"
    for name in dockerd podman; do
        printf '#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec nsenter --mount --target "$HOLDER" %s "$@"\n' "$name" >"$NEWER/$1/$name"
        chmod +x "$NEWER/$1/$name"
    done
    # Podman in the place of Docker: the same API at the same socket.
    [ "$1" = docker ] || sed -i 's/dockerd "\$@"/podman system service --time=0 unix:\/\/\/run\/docker.sock/' "$NEWER/$1/dockerd"
}

# run.sh in namespaces of its own. The engine has one mount namespace more, whose root is the root file system (of a mere
# chroot `docker exec` finds the way out), with the same /run, /tmp and repository.
# shellcheck disable=SC2016  # expanded by the inner shells
run_scenarios() {
    NEWER=$NEWER ROOT=$ROOT PATH=$NEWER/$1:$PATH SKIP_BUILD=1 unshare --mount --net --pid --fork --kill-child --mount-proc bash -c '
        mount -t tmpfs -o mode=755 none /run && mkdir -p /run/netns && ip link set lo up || exit 1
        unshare --mount bash -ec "
            mount --bind \"$NEWER/root\" \"$NEWER/root\"
            cd \"$NEWER/root\"
            for it in /proc /dev /run /tmp \"$ROOT\"; do
                mkdir -p \".\$it\"
                mount --rbind \"\$it\" \".\$it\"
            done
            mount -t sysfs none sys
            mount --rbind /sys/fs/cgroup sys/fs/cgroup
            pivot_root . mnt
            umount -l mnt
            exec sleep infinity >/run/holder 2>&1
        " &
        export HOLDER=$!
        until [ -e /run/holder ]; do kill -0 $HOLDER && sleep 0.1 || exit 1; done
        tests/e2e/run.sh "$@"
        exit $?
    ' newer "${@:2}"
}

mkdir -p "$NEWER"
install_packages docker.io busybox-static iproute2 python3-minimal podman docker-compose mmdebstrap || exit 1
install_compose && make_root || exit 1
if [ -z "${SKIP_BUILD:-}" ]; then build_binary || exit 1; fi
# Within its namespaces run.sh has no network to download the packages of the image, which are kept.
modes-examples/stage-image.sh "$BINARY" target/image && modes-examples/stage-tools.sh target/image || exit 1

passed=0 failed=0
for engine in "${ENGINES[@]}"; do
    make_programs "$engine"
    echo "== $(chroot "$NEWER/root" dpkg-query -W -f '${Package} ${Version}' "${engine/docker/docker.io}")"
    run_scenarios "$engine" "$@" | tee "$NEWER/$engine.log"
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$NEWER/$engine.log") || counts='0 passed, 1 failed'
    passed=$((passed + ${counts%% *}))
    failed=$((failed + $(sed -E 's/.*, ([0-9]+) failed.*/\1/' <<<"$counts")))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
