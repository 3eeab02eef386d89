# shellcheck shell=bash
# Sets up what the end-to-end tests and the examples need: packages, a Docker engine, compose v2, images. Source it.
# Each function does nothing if its work is already done.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BINARY=${BINARY:-${CARGO_TARGET_DIR:-$ROOT/target}/$(rustc --print host-tuple)/release/conlink}
SETUP_DIR=${TMPDIR:-/tmp}/conlink-setup
DOCKERD_PID=

say() { printf '%s\n' "$*" >&2; }

# Prints those of the given packages that are not installed.
missing_packages() {
    local it
    for it in "$@"; do
        dpkg-query -W -f '${Status}\n' "$it" 2>/dev/null | grep -q '^install ok installed' || printf '%s\n' "$it"
    done
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing ${missing[*]}"
    # The tests start daemons themselves, so the services of the packages must not start.
    local policy=/usr/sbin/policy-rc.d code=0
    if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$SETUP_DIR/apt.log" 2>&1 || code=$?
    [ -z "$policy" ] || rm -f "$policy"
    [ "$code" = 0 ] || tail -20 "$SETUP_DIR/apt.log" >&2
    return "$code"
}

# Writes a sources file for another Debian suite to a folder, from the first source of this machine's own apt. Prints its name.
package_source() {
    local suite=$1 folder=$2 source
    if source=$(grep -ls '^Types:' /etc/apt/sources.list.d/debian.sources); then
        awk 'NF == 0 { exit } { print }' "$source" | sed "s/^Suites:.*/Suites: $suite/" >"$folder/$suite.sources"
        echo "$folder/$suite.sources"
    else
        grep -m1 '^deb .* main' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -E "s/^[^:]*:(deb .*)$/\1/; s/^(deb( \[[^]]*\])? [^ ]+) [^ ]+ .*/\1 $suite main/" >"$folder/$suite.list"
        echo "$folder/$suite.list"
    fi
}

# Compose v2 is in the next Debian release. Separate folders for that release leave the machine's apt as it is.
install_compose() {
    docker compose version >/dev/null 2>&1 && return 0
    say "installing compose v2"
    local dir=$SETUP_DIR/compose plugins=${HOME:-/root}/.docker/cli-plugins source
    mkdir -p "$dir"/{lists/partial,cache/archives/partial,root} "$plugins"
    source=$(package_source trixie "$dir")
    local options=(-o "Dir::Etc::sourcelist=$source" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$dir/lists"
        -o "Dir::Cache=$dir/cache")
    { apt-get "${options[@]}" update -qq && (cd "$dir" && apt-get "${options[@]}" download docker-compose docker-buildx); } \
        >"$dir/log" 2>&1 || {
        cat "$dir/log" >&2
        return 1
    }
    local package
    for package in "$dir"/*.deb; do dpkg -x "$package" "$dir/root"; done
    find "$dir/root" -path '*cli-plugins/docker-*' -type f -exec install -m 755 {} "$plugins" \;
    docker compose version >/dev/null
}

start_dockerd() {
    docker version >/dev/null 2>&1 && return 0
    say "starting dockerd"
    dockerd >"$SETUP_DIR/dockerd.log" 2>&1 &
    DOCKERD_PID=$!
    local try
    for try in $(seq 1 300); do
        docker version >/dev/null 2>&1 && return 0
        kill -0 "$DOCKERD_PID" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$SETUP_DIR/dockerd.log" >&2
    say "dockerd did not answer within 30 s"
    return 1
}

# Stops the engine if this script started it.
stop_dockerd() {
    [ -n "$DOCKERD_PID" ] || return 0
    kill "$DOCKERD_PID" 2>/dev/null || true
    # A dockerd that a subshell started is not a child, and `wait` does not wait for it.
    local try
    for try in $(seq 1 200); do
        wait "$DOCKERD_PID" 2>/dev/null || true
        kill -0 "$DOCKERD_PID" 2>/dev/null || break
        sleep 0.1
    done
    [ "$try" -lt 200 ] || say "dockerd $DOCKERD_PID is still running"
    DOCKERD_PID=
}

# The image of the containers to wire: busybox and nothing else. There may be no registry to pull one from.
make_node_image() {
    docker image inspect conlink-node >/dev/null 2>&1 && return 0
    local dir=$SETUP_DIR/node it
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,dev,etc,proc,sys,tmp,root}
    cp /bin/busybox "$dir/bin/busybox"
    for it in $(/bin/busybox --list); do
        [ "$it" = busybox ] || ln -s busybox "$dir/bin/$it"
    done
    tar -C "$dir" -c . | docker import --change 'ENV PATH=/bin' --change 'CMD ["sleep", "1000000"]' - conlink-node >/dev/null
}

# The same with BIRD, for the example `ospf`.
make_bird_image() {
    docker image inspect conlink-bird >/dev/null 2>&1 && return 0
    local dir=$SETUP_DIR/bird it
    rm -rf "$dir"
    mkdir -p "$dir"
    for it in /usr/sbin/bird /usr/sbin/birdc $(ldd /usr/sbin/bird /usr/sbin/birdc | grep -o '/lib[^ ]*' | sort -u); do
        install -D "$it" "$dir$it"
    done
    printf 'FROM conlink-node\nCOPY . /\nENV PATH=/bin:/usr/sbin\n' >"$dir.Dockerfile"
    DOCKER_BUILDKIT=0 docker build --quiet --tag conlink-bird --file "$dir.Dockerfile" "$dir" >/dev/null
}

build_binary() {
    (cd "$ROOT" && cargo build --release --bin conlink)
}

# The images of the engine.
make_images() {
    BINARY=$BINARY DOCKER_BUILDKIT=0 "$ROOT/modes-examples/image.sh" >"$SETUP_DIR/build.log" 2>&1 || {
        cat "$SETUP_DIR/build.log" >&2
        return 1
    }
}

mkdir -p "$SETUP_DIR"
