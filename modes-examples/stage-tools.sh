#!/usr/bin/env bash
# Adds what projects run in the engine's container to a folder that stage-image.sh has filled: a shell, iproute2, nftables,
# tcpdump, ethtool and Open vSwitch, with the libraries that they load. The files come from Debian's packages, which are
# unpacked and not installed.
# usage: stage-tools.sh FOLDER     on Debian; the packages are kept in FOLDER.packages for the next time
set -euo pipefail
umask 022
shopt -s nullglob
mkdir -p "$1"
stage=$(cd "$1" && pwd)
packages=$stage.packages
wanted=(bash busybox-static dash ethtool iproute2 nftables openvswitch-common openvswitch-switch tcpdump)
programs=(bash dash ip tc bridge ss nft tcpdump ethtool ovsdb-server ovs-vswitchd ovsdb-tool ovsdb-client ovs-vsctl ovs-ofctl ovs-appctl
    ovs-dpctl)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# The packages, and the libraries among their dependencies, from one listing: each call of apt-cache reads all lists.
closure() {
    apt-cache depends --recurse --important "${wanted[@]}" | awk -v wanted="${wanted[*]}" '
        /^[^ ]/ { of = $1; next }
        $1 ~ /Depends:$/ && $2 ~ /^(lib|zlib)/ { needs[of] = needs[of] " " $2 }
        END {
            count = split(wanted, queue, " ")
            for (at = 1; at <= count; at++) {
                if (queue[at] in seen) continue
                seen[queue[at]]
                print queue[at]
                more = split(needs[queue[at]], names, " ")
                for (it = 1; it <= more; it++) queue[++count] = names[it]
            }
        }'
}

if [ ! -d "$packages" ]; then
    mapfile -t names < <(closure)
    [ ${#names[@]} -gt 0 ] || { echo "stage-tools.sh: run apt-get update first" >&2 && exit 1; }
    rm -rf "$packages.new"
    mkdir -p "$packages.new"
    # As root, apt-get warns that its own user cannot write there, and works without that user.
    (cd "$packages.new" && apt-get download -qq "${names[@]}" 2>"$root/log") || {
        cat "$root/log" >&2
        rm -rf "$packages.new"
        exit 1
    }
    mv "$packages.new" "$packages"
fi
for it in "$packages"/*.deb; do dpkg-deb --extract "$it" "$root"; done

# The first of these files that exists.
first() {
    local it
    for it in "$@"; do
        [ ! -f "$it" ] || { printf '%s\n' "$it" && return; }
    done
    echo "stage-tools.sh: none of these is in the packages: ${*#"$root"}" >&2
    return 1
}

# Where scripts look for programs. One folder has all of them.
mkdir -p "$stage"/{bin,etc,root,run,tmp,usr/share/openvswitch}
for it in sbin usr/bin usr/sbin; do
    mkdir -p "$(dirname "$stage/$it")"
    ln -sfn "$(sed 's:[^/]*$::; s:[^/]*/:../:g' <<<"$it")bin" "$stage/$it"
done
for it in "${programs[@]}"; do
    install -m 755 "$(first "$root"/{,usr/}{bin,sbin,lib/openvswitch-switch}/"$it")" "$stage/bin/"
done
cp "$root/usr/share/openvswitch/vswitch.ovsschema" "$stage/usr/share/openvswitch/"
cp -r "$root/etc/iproute2" "$stage/etc/"
# The tables of netem's distributions.
for it in "$root"/usr/lib/{,*/}tc/*.dist; do install -D -m 644 "$it" "$stage${it#"$root"}"; done
# tcpdump becomes its own user.
printf '%s\n' root:x:0:0:root:/root:/bin/sh tcpdump:x:100:100::/:/bin/false >"$stage/etc/passwd"
printf '%s\n' root:x:0: tcpdump:x:100: >"$stage/etc/group"

# The usual commands, except where the folder has a program of that name already. The shell is not busybox's, which prefers
# its own `ip` to the one in PATH.
ln -sf dash "$stage/bin/sh"
install -m 755 "$(first "$root"/{,usr/}bin/busybox)" "$stage/bin/busybox"
for it in $("$stage/bin/busybox" --list); do
    [ -e "$stage/bin/$it" ] || ln -s busybox "$stage/bin/$it"
done

# The loader, where programs expect it, and beside it the libraries that it finds by itself.
loaders=("$root"/{usr/,}lib/*/ld-linux*.so.*)
names=("$root"/{usr/,}lib{64,}/ld-linux*.so.*)
loader=${loaders[0]}
named=${names[0]#"$root"/}
named=${named#usr/}
folder=lib/$(basename "$(dirname "$loader")")
mkdir -p "$stage/$folder" "$stage/$(dirname "$named")"
cp "$loader" "$stage/$named"
where=$root/usr/$folder:$root/$folder
for it in "${programs[@]}"; do "$loader" --library-path "$where" --list "$stage/bin/$it"; done |
    sed -nE 's/^[^/]*=> (\/[^ ]+) .*/\1/p' | sort -u | while read -r library; do
    case $library in
        "$root"/*) cp --dereference "$library" "$stage/$folder/" ;;
        *)
            echo "stage-tools.sh: $library would come from this machine, not from a package" >&2
            exit 1
            ;;
    esac
done
# The licenses.
for it in "$root"/usr/share/doc/*/copyright; do
    install -D -m 644 "$it" "$stage/usr/share/doc/$(basename "$(dirname "$it")")/copyright"
done

# Each program starts with the staged libraries alone.
for it in "${programs[@]}"; do
    case $it in
        dash) arguments=(-c true) ;;
        ip | tc | bridge | ss) arguments=(-V) ;;
        *) arguments=(--version) ;;
    esac
    "$stage/$named" --library-path "$stage/$folder" "$stage/bin/$it" "${arguments[@]}" >/dev/null
done
