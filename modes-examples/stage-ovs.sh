#!/usr/bin/env bash
# Adds Open vSwitch to a folder that stage-image.sh has filled, for the image conlink:ovs: its daemons, the tools to look
# at them, the libraries that they load. They come from Debian's packages, which are unpacked and not installed.
# usage: stage-ovs.sh FOLDER     on Debian; the packages are kept in FOLDER.packages for the next time
set -euo pipefail
mkdir -p "$1"
stage=$(cd "$1" && pwd)
packages=$stage.packages
programs=(sbin/ovsdb-server lib/openvswitch-switch/ovs-vswitchd bin/ovsdb-tool bin/ovsdb-client bin/ovs-vsctl bin/ovs-ofctl
    bin/ovs-appctl)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# The two packages, and the libraries among what they and these depend on.
closure() {
    local queue=(openvswitch-switch openvswitch-common) seen=' ' name
    while [ ${#queue[@]} -gt 0 ]; do
        name=${queue[0]}
        queue=("${queue[@]:1}")
        case $seen in *" $name "*) continue ;; esac
        seen+="$name "
        printf '%s\n' "$name"
        mapfile -t -O ${#queue[@]} queue < <(apt-cache depends --important "$name" |
            sed -nE 's/^ *\|?(Pre)?Depends: ((lib|zlib)[^ <>]*)$/\2/p')
    done
}

if [ ! -d "$packages" ]; then
    mapfile -t names < <(closure)
    mkdir "$packages.new"
    # Its own user may not write there: as root it warns, and does without.
    (cd "$packages.new" && apt-get download -qq "${names[@]}" 2>"$root/log") || {
        cat "$root/log" >&2
        rm -rf "$packages.new"
        exit 1
    }
    mv "$packages.new" "$packages"
fi
for it in "$packages"/*.deb; do dpkg-deb --extract "$it" "$root"; done

mkdir -p "$stage"/{bin,run,tmp,usr/share/openvswitch}
for it in "${programs[@]}"; do install -m 755 "$root/usr/$it" "$stage/bin/"; done
cp "$root/usr/share/openvswitch/vswitch.ovsschema" "$stage/usr/share/openvswitch/"

# The loader, where programs name it, and beside it the libraries that it finds by itself.
shopt -s nullglob
loaders=("$root"/{usr/,}lib/*/ld-linux*.so.*)
names=("$root"/{usr/,}lib{64,}/ld-linux*.so.*)
loader=${loaders[0]}
named=${names[0]#"$root"/}
named=${named#usr/}
folder=lib/$(basename "$(dirname "$loader")")
mkdir -p "$stage/$folder" "$stage/$(dirname "$named")"
cp "$loader" "$stage/$named"
where=$root/usr/$folder:$root/$folder
for it in "${programs[@]}"; do "$loader" --library-path "$where" --list "$root/usr/$it"; done |
    sed -nE 's/^[^/]*=> (\/[^ ]+) .*/\1/p' | sort -u | while read -r library; do
    case $library in
        "$root"/*) cp --dereference "$library" "$stage/$folder/" ;;
        *)
            echo "stage-ovs.sh: $library would come from this machine, not from a package" >&2
            exit 1
            ;;
    esac
done
# Whose all that is.
for it in "$root"/usr/share/doc/*/copyright; do
    install -D -m 644 "$it" "$stage/usr/share/doc/$(basename "$(dirname "$it")")/copyright"
done

# With nothing but what is staged.
for it in ovsdb-server ovs-vswitchd ovsdb-tool ovs-vsctl; do
    "$stage/$named" --library-path "$stage/$folder" "$stage/bin/$it" --version >/dev/null
done
