#!/usr/bin/env bash
# The namespace tests on Debian's own kernel, which has everything that links can be made of, in a virtual machine
# without hardware help. There nothing may be skipped. Arguments are test names to run instead of all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh

DIR=$SETUP_DIR/vm
GUEST=$DIR/guest
# Seconds; emulated code takes 10 to 20 times as long as the machine's own.
LIMIT=${CONLINK_VM_LIMIT:-600}
FILTERS=("$@")
# Of the library those that a kernel with everything makes a difference for.
LIBRARY=("$@")
[ $# -gt 0 ] || {
    FILTERS=(kernel:: netns::)
    LIBRARY=(kernel::netem kernel::nft kernel::ethtool)
    LIBRARY+=(ovs::tests::{hosts_on,big_frames,a_killed_switch,killed_daemons,stop_leaves})
}

# What links are made of.
MODULES=(
    veth dummy ifb tun tap 8021q macvlan macvtap ipvlan ipvtap vxlan geneve bridge br_netfilter openvswitch netdevsim
    virtio_net virtio_pci sch_netem sch_ingress sch_tbf cls_matchall cls_u32 act_mirred act_gact
    nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_compat nft_redir nf_nat
    nf_conntrack iptable_nat xt_MASQUERADE xt_nat xt_tcpudp xt_addrtype af_packet ipv6
)
# What the tests look with.
# Among them `timeout`: that of busybox would start the `ip` of busybox.
TOOLS=(ip tc bridge ethtool nft timeout true)
# What Open vSwitch brings.
OVS=(/usr/sbin/ovsdb-server /usr/sbin/ovs-vswitchd /usr/bin/ovsdb-tool /usr/bin/ovs-vsctl /usr/bin/ovs-appctl)

# The newest of Debian's kernels for virtual machines, unpacked rather than installed: this machine keeps its own.
fetch_kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    [ -n "$package" ] || {
        apt-get update -qq
        package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    }
    RELEASE=${package#linux-image-}
    [ -e "$DIR/kernel/boot/vmlinuz-$RELEASE" ] && return 0
    say "fetching the kernel $RELEASE"
    rm -rf "$DIR/kernel" && mkdir -p "$DIR/kernel"
    (cd "$DIR" && { apt-get download "$package" || { apt-get update -qq && apt-get download "$package"; }; }) >"$DIR/apt.log" 2>&1 || {
        cat "$DIR/apt.log" >&2
        return 1
    }
    dpkg -x "$DIR/${package}"_*.deb "$DIR/kernel"
    rm -f "$DIR/${package}"_*.deb
    depmod -b "$DIR/kernel" "$RELEASE"
}

# A program with the libraries that it is linked with, where it looks for them.
copy_program() {
    local file
    install -D "$1" "$GUEST$1"
    while read -r file; do
        [ -e "$GUEST$file" ] || install -D "$file" "$GUEST$file"
    done < <(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+')
}

# The test programs as cargo names them: those of the library and the one for integration.
test_programs() {
    cargo test --no-run --lib --test tests --message-format=json 2>"$DIR/cargo.log" |
        grep -oE '"executable":"[^"]+/deps/[^"]+"' | cut -d'"' -f4
}

make_guest() {
    local it name
    rm -rf "$GUEST" && mkdir -p "$GUEST"/{bin,sbin,dev,proc,sys,tmp,run,root,etc,usr/share/openvswitch,"lib/modules/$RELEASE"}
    cp /bin/busybox "$GUEST/bin/busybox"
    for it in mount mkdir cat echo sleep poweroff uname ln ls seq kill modprobe; do ln -s busybox "$GUEST/bin/$it"; done
    ln -s ../bin/busybox "$GUEST/sbin/modprobe"
    # Not busybox's, which takes its own `ip` for the real one.
    copy_program "$(readlink -f /bin/dash)" && ln -s "$(readlink -f /bin/dash)" "$GUEST/bin/sh"
    for name in "${TOOLS[@]}"; do copy_program "$(type -P "$name")"; done
    for it in "${OVS[@]}"; do copy_program "$(readlink -f "$it")"; done
    for it in "${OVS[@]}"; do [ -e "$GUEST$it" ] || { mkdir -p "$GUEST$(dirname "$it")" && ln -s "$(readlink -f "$it")" "$GUEST$it"; }; done
    # iptables knows its matches and targets by plugins.
    copy_program "$(readlink -f /usr/sbin/iptables-nft)"
    ln -s "$(readlink -f /usr/sbin/iptables-nft)" "$GUEST/usr/sbin/iptables-nft"
    for it in /usr/lib/*/xtables; do mkdir -p "$GUEST$(dirname "$it")" && cp -r "$it" "$GUEST$it"; done
    cp /usr/share/openvswitch/vswitch.ovsschema "$GUEST/usr/share/openvswitch/"
    # `tc` has the shapes of delays in files.
    for it in /usr/lib/tc /usr/lib/*/tc; do
        [ ! -d "$it" ] || { mkdir -p "$GUEST$it" && cp "$it"/*.dist "$GUEST$it/"; }
    done
    ln -s /usr/bin/true "$GUEST/bin/true"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$GUEST/etc/passwd"
    local modules="$DIR/kernel/lib/modules/$RELEASE"
    cp "$modules"/modules.{dep,alias,symbols,softdep,builtin,order} "$GUEST/lib/modules/$RELEASE/" 2>/dev/null || true
    for name in "${MODULES[@]}"; do
        # One that is built in has no file.
        for it in $(modprobe -d "$DIR/kernel" -S "$RELEASE" --show-depends "$name" 2>/dev/null | awk '$1 == "insmod" { print $2 }'); do
            it=${it#"$DIR/kernel"}
            [ -e "$GUEST$it" ] || install -D -m 644 "$DIR/kernel$it" "$GUEST$it"
        done
    done
    # Tests read their cases where they were built.
    cp -r tests/data "$GUEST/data"
    local number=0
    mkdir -p "$GUEST/tests"
    while read -r it; do
        number=$((number + 1))
        strip -o "$GUEST/tests/$number-$(basename "$it")" "$it"
    done < <(test_programs)
    [ "$number" -gt 0 ] || {
        cat "$DIR/cargo.log" >&2
        return 1
    }
    cat >"$GUEST/init" <<INIT
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp CONLINK_TEST_ALL=1 CONLINK_VM=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/netns /run/openvswitch /var
ln -s /run /var/run
mkdir -p $ROOT/tests
ln -s /data $ROOT/tests/data
ip link set lo up
# Loaded before tests that run side by side ask for them; that of Open vSwitch is left for the engine to find.
for it in ${MODULES[*]}; do [ \$it = openvswitch ] || modprobe \$it 2>/dev/null; done
code=0
for it in /tests/*-tests-*; do \$it ${FILTERS[*]} --test-threads=2 || code=\$?; done
for it in /tests/*-conlink-*; do \$it ${LIBRARY[*]} --test-threads=2 || code=\$?; done
echo "guest exit code \$code"
poweroff -f
INIT
    chmod +x "$GUEST/init"
    (cd "$GUEST" && find . -print0 | cpio --quiet --null -o -H newc | gzip -1) >"$DIR/initrd.gz"
}

mkdir -p "$DIR"
install_packages busybox-static iproute2 ethtool nftables iptables openvswitch-switch qemu-system-x86 cpio kmod binutils
fetch_kernel
make_guest
LOG=$DIR/console.log
say "starting the virtual machine"
timeout "$LIMIT" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1536M -smp 2 -nographic -no-reboot \
    -nic none -device virtio-net-pci,romfile= \
    -kernel "$DIR/kernel/boot/vmlinuz-$RELEASE" -initrd "$DIR/initrd.gz" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1" </dev/null 2>&1 | tr -d '\r' | tee "$LOG" |
    sed -u -n '/^running [0-9]* tests\?$/,$p' || true
code=$(sed -n 's/^guest exit code //p' "$LOG")
[ -n "$code" ] || {
    tail -50 "$LOG"
    say "the virtual machine did not come to its end within $LIMIT s"
    code=1
}
exit "$code"
