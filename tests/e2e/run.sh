#!/usr/bin/env bash
# The end-to-end tests: a real engine, real compose, the examples, and failures of running projects.
# usage: tests/e2e/run.sh [PATTERN]      only the scenarios whose name contains PATTERN
# environment: SKIP_BUILD=1 does not build; BINARY=FILE tests that binary
# shellcheck disable=SC2317  # scenarios are called by name
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/e2e/setup.sh
. tests/e2e/setup.sh

WORK=$(mktemp -d)
PASSED=0 FAILED=0 SKIPPED=0
ENGINE_PID=

# ---- helpers

# Repeats a command until it succeeds, for the given number of seconds at most.
within() {
    local seconds=$1 end
    shift
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || {
            say "no success within $seconds s: $*"
            return 1
        }
        sleep 0.05
    done
}

compose() { timeout 120 docker compose "$@"; }

# Starts the engine on the host itself for a project; its log is in $WORK/engine.log.
start_engine() {
    # Emptied here: the engine's own process may open it late, and the log of the one before would be read.
    : >"$WORK/engine.log"
    # Without any variable, and so without a PATH: it needs no program.
    env -i "$BINARY" --compose-file compose.yaml --compose-project "$1" "${@:2}" >>"$WORK/engine.log" 2>&1 &
    ENGINE_PID=$!
}

# Sends a signal to the engine and waits until it has exited.
end_engine() {
    [ -n "$ENGINE_PID" ] || return 0
    kill "-$1" "$ENGINE_PID" 2>/dev/null
    wait "$ENGINE_PID" 2>/dev/null
    local code=$?
    ENGINE_PID=
    return "$code"
}

connected() { [ "$(grep -c '^All links connected' "$WORK/engine.log")" -ge "${1:-1}" ]; }
has_link() { timeout 20 docker exec "$1" ip link show "${2:-eth0}"; }
has_no_link() { ! timeout 20 docker exec "$1" ip link show "${2:-eth0}"; }
pings() { timeout 20 docker exec "$1" ping -c 1 -W 1 "$2"; }

# Starts a project in its own folder. The compose file is read from standard input.
project() {
    mkdir -p "$WORK/$1"
    cd "$WORK/$1" || return 1
    cat >compose.yaml
    compose -p "$1" up -d >"$WORK/compose.log" 2>&1 || {
        cat "$WORK/compose.log"
        return 1
    }
}

down() { compose -p "$1" down -t 1 --remove-orphans --volumes >/dev/null 2>&1; }

NODE='image: conlink-node, network_mode: none, stop_grace_period: 0s'

# ---- scenarios: each runs in a subshell

each_example_comes_up_and_pings() {
    local example
    for example in "$ROOT"/modes-examples/*/compose.yaml; do
        example=$(dirname "$example")
        cd "$example" || return 1
        compose up -d >/dev/null 2>&1
        if ! timeout 60 bash check.sh >"$WORK/check.log" 2>&1; then
            cat "$WORK/check.log"
            docker logs "$(docker compose ps -aq network)"
            compose down -t 1 >/dev/null 2>&1
            return 1
        fi
        say "  $(basename "$example") works"
        compose down -t 5 >/dev/null 2>&1
    done
}

two_replicas_become_five_and_then_one() {
    project scale <<YAML || return 1
services:
  h: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
YAML
    start_engine scale
    compose -p scale up -d --scale h=2 >/dev/null 2>&1 && within 10 pings scale-h-1 10.0.0.2 &&
        compose -p scale up -d --scale h=5 >/dev/null 2>&1 && within 10 pings scale-h-1 10.0.0.5 &&
        compose -p scale up -d --scale h=1 >/dev/null 2>&1 && has_link scale-h-1 >/dev/null &&
        within 10 outer_ends conlink-scale 1
}

# Does the namespace have exactly this number of outer ends?
outer_ends() { [ "$(ip -n "$1" -o link show type veth | wc -l)" = "$2" ]; }

a_restarted_and_a_killed_container_are_wired_again() {
    project again <<YAML || return 1
services:
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    start_engine again
    within 10 pings again-a-1 10.0.0.2 || return 1
    local try
    for try in 1 2 3; do
        docker restart -t 0 again-b-1 >/dev/null && within 10 pings again-a-1 10.0.0.2 || return 1
    done
    docker kill again-b-1 >/dev/null && within 10 outer_ends conlink-again 1 &&
        docker start again-b-1 >/dev/null && within 10 pings again-a-1 10.0.0.2
}

no_ping_is_lost_when_the_engine_on_the_host_is_killed_and_started_again() {
    project kill9 <<YAML || return 1
services:
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    start_engine kill9
    within 10 pings kill9-a-1 10.0.0.2 || return 1
    docker exec kill9-a-1 ping -c 40 -i 0.05 -W 1 10.0.0.2 >"$WORK/ping.log" &
    local ping=$! try
    for try in 1 2 3; do
        end_engine KILL
        start_engine kill9
        within 10 connected || return 1
    done
    wait "$ping"
    tail -2 "$WORK/ping.log"
    grep -q '40 packets transmitted, 40 packets received' "$WORK/ping.log"
}

a_second_start_on_a_converged_system_plans_nothing() {
    project twice <<YAML || return 1
services:
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24, route: default via 10.0.0.2}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    local plan
    plan=$("$BINARY" --compose-file compose.yaml --compose-project twice --dry-run) || return 1
    grep -q 'add veth eth0' <<<"$plan" || return 1
    has_no_link twice-a-1 >/dev/null 2>&1 || return 1
    "$BINARY" --compose-file compose.yaml --compose-project twice --once >/dev/null 2>&1 || return 1
    plan=$("$BINARY" --compose-file compose.yaml --compose-project twice --dry-run 2>&1) || return 1
    [ -z "$plan" ] || { say "unexpected plan: $plan"; return 1; }
    # --once leaves its links; the next engine's end takes them away.
    pings twice-a-1 10.0.0.2 && start_engine twice && within 10 connected && end_engine TERM && within 5 has_no_link twice-a-1
}

# The engine as a service of the project, as in users' compose files.
engine_service() {
    cat <<YAML
  network:
    image: conlink
    pid: host
    network_mode: none
    cap_add: [SYS_ADMIN, NET_ADMIN]
    security_opt: ["apparmor:unconfined"]
    volumes: ["/var/run/docker.sock:/var/run/docker.sock", "./:/test"]
    working_dir: /test
    command: /app/build/conlink.js --compose-file compose.yaml
YAML
}

the_engines_container_is_killed_and_everything_is_wired_again() {
    project inside <<YAML || return 1
services:
$(engine_service)
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    within 10 pings inside-a-1 10.0.0.2 || return 1
    docker kill inside-network-1 >/dev/null && within 10 has_no_link inside-a-1 &&
        docker start inside-network-1 >/dev/null && within 10 pings inside-a-1 10.0.0.2
}

a_client_that_waits_for_a_healthy_engine_needs_no_wait() {
    # The engine starts after the hosts, so that it is not healthy before it has wired them.
    project healthy <<YAML || return 1
services:
$(engine_service)
    depends_on: [h1, h2]
    healthcheck: {interval: 500ms}
  h1: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  h2: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
  client:
    image: conlink-node
    network_mode: service:h1
    command: ping -c 1 -W 1 10.0.0.2
    stop_grace_period: 0s
    depends_on:
      h1: {condition: service_started}
      h2: {condition: service_started}
      network: {condition: service_healthy}
YAML
    local code network=healthy-network-1
    code=$(timeout 60 docker wait healthy-client-1)
    [ "$code" = 0 ] || { docker logs healthy-client-1; docker logs "$network"; return 1; }
    [ "$(docker inspect -f '{{.State.Health.Status}}' "$network")" = healthy ] || return 1
    compose -p healthy exec -T network conlink status >"$WORK/status" || { cat "$WORK/status"; return 1; }
    diff - "$WORK/status" <<'TABLE' || return 1
project healthy: connected, 2 nodes, 2 links
bridges: lan (linux, 2 ports)
NODE          LINK  JOINED TO  ADDRESSES    STATE
healthy-h1-1  eth0  lan        10.0.0.1/24  up
healthy-h2-1  eth0  lan        10.0.0.2/24  up
TABLE
    compose -p healthy exec -T network conlink status --json | tr -d '\r' >"$WORK/status" || return 1
    grep -qx '{"version":1,"kind":"engine","project":"healthy","state":"connected",.*}' "$WORK/status" || { cat "$WORK/status"; return 1; }
    # One that cannot be wired makes it ill, and the verdict says why.
    docker run -d --rm --network none --label com.docker.compose.project=healthy --label com.docker.compose.service=h1 \
        --label com.docker.compose.container-number=1000 --name healthy-h1-1000 conlink-node >/dev/null || return 1
    within 10 sick "$network" 'link healthy-h1-1000:eth0: .*10.0.0.1 + 999 is outside of'
    code=$?
    docker rm -f healthy-h1-1000 >/dev/null
    [ "$code" = 0 ] && within 10 docker exec "$network" conlink healthcheck
}

# Is the container unhealthy, and does a check's output match this text?
sick() {
    [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = unhealthy ] &&
        docker inspect -f '{{range .State.Health.Log}}{{.Output}}{{end}}' "$1" | grep -q "$2"
}

the_engines_container_removes_what_it_made_when_it_stops() {
    project stops <<YAML || return 1
services:
$(engine_service)
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
YAML
    within 10 has_link stops-a-1 || return 1
    docker stop -t 10 stops-network-1 >/dev/null
    [ "$(docker inspect -f '{{.State.ExitCode}}' stops-network-1)" = 0 ] && within 5 has_no_link stops-a-1
}

# Runs a program of this machine in the network namespace of a container.
inside_network_of() {
    local pid
    pid=$(docker inspect -f '{{.State.Pid}}' "$1")
    timeout 20 nsenter -t "$pid" -n "${@:2}"
}

udp_ports_are_forwarded_to_each_replica_and_closed_when_it_goes() {
    project udp <<YAML || return 1
services:
$(engine_service | sed '/network_mode/d')
    ports: ["127.0.0.1:15353-15354:5353-5354/udp"]
  a: {$NODE, scale: 2, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24, forward: 5353:53/udp}]}}
YAML
    within 10 has_link udp-a-2 || return 1
    cat >answer.py <<'PYTHON'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 53))
while True:
    text, who = s.recvfrom(99)
    s.sendto(text + b" " + sys.argv[1].encode() + b" " + who[0].encode(), who)
PYTHON
    cat >ask.py <<'PYTHON'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b"hello", ("127.0.0.1", int(sys.argv[1])))
text = s.recv(99).decode().split()
sys.exit(not (text[:2] == ["hello", sys.argv[2]] and text[2].startswith("169.254.")))
PYTHON
    local index
    for index in 1 2; do inside_network_of "udp-a-$index" python3 answer.py "$index" & done
    within 10 python3 ask.py 15353 1 && within 10 python3 ask.py 15354 2 || return 1
    docker rm -f udp-a-2 >/dev/null
    sleep 1
    within 5 python3 ask.py 15353 1 || return 1
    ! inside_network_of udp-network-1 nft list table inet conlink | grep 5354
}

bridges_of_open_vswitch_carry_links_and_outlive_a_killed_switch() {
    project switch <<YAML || return 1
services:
$(engine_service)
    devices: [/dev/net/tun]
  a: {$NODE, scale: 2, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
x-network: {bridges: [{bridge: lan, mode: ovs}]}
YAML
    within 20 pings switch-a-1 10.0.0.2 || { docker logs switch-network-1; return 1; }
    # Its tools find the daemons where they look by themselves.
    compose -p switch exec -T network ovs-vsctl show | grep -q 'Bridge lan' || return 1
    local pid
    pid=$(pgrep -f 'ovs-vswitchd .*ovs-switch') && kill -9 "$pid" || return 1
    within 20 pings switch-a-1 10.0.0.2 || { docker logs switch-network-1; return 1; }
    compose -p switch up -d --scale a=3 >/dev/null 2>&1
    within 20 pings switch-a-3 10.0.0.1 || { docker logs switch-network-1; return 1; }
    docker stop -t 20 switch-network-1 >/dev/null
    [ "$(docker inspect -f '{{.State.ExitCode}}' switch-network-1)" = 0 ] && within 5 has_no_link switch-a-1
}

a_project_is_assembled_from_modes_and_changed_by_others() {
    cp -r "$ROOT/modes-examples/assembled" "$ROOT/modes-examples/check.sh" "$WORK/" && cd "$WORK/assembled" || return 1
    "$BINARY" mdc all up -d >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log"; return 1; }
    if ! timeout 60 bash check.sh; then
        docker logs assembled-network-1
        return 1
    fi
    # What is mounted sees other files at once; the engine is started anew with another MTU.
    "$BINARY" mdc fancy,jumbo,all up -d >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log"; return 1; }
    mtu() { [ "$(docker exec assembled-h-1 cat /sys/class/net/eth0/mtu)" = 9000 ]; }
    page() { [ "$(docker exec assembled-h-1 wget -q -O - http://10.2.0.10/)" = '<h1>fancy</h1>' ]; }
    within 20 mtu && within 20 page
}

an_engine_without_pid_host_says_what_it_lacks() {
    mkdir -p "$WORK/nopid" && cd "$WORK/nopid" || return 1
    echo 'links: [{service: a, bridge: lan}]' >net.yaml
    local said
    said=$(docker run --rm --network none -v /var/run/docker.sock:/var/run/docker.sock -v "$PWD:/test" -w /test conlink \
        conlink --network-file net.yaml 2>&1)
    [ $? = 1 ] && grep -q 'pid: host' <<<"$said"
}

two_projects_side_by_side_do_not_touch_each_other() {
    local it
    for it in left right; do
        project $it <<YAML || return 1
services:
$(engine_service)
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    done
    within 10 pings left-a-1 10.0.0.2 && within 10 pings right-a-1 10.0.0.2 || return 1
    local index
    index=$(docker exec right-a-1 cat /sys/class/net/eth0/ifindex)
    docker stop -t 10 left-network-1 >/dev/null && within 5 has_no_link left-a-1 && pings right-a-1 10.0.0.2 >/dev/null &&
        [ "$(docker exec right-a-1 cat /sys/class/net/eth0/ifindex)" = "$index" ]
}

a_bad_file_is_refused_with_its_line() {
    mkdir -p "$WORK/bad" && cd "$WORK/bad" || return 1
    printf 'x-network:\n  links:\n    - {service: a, bridge: lan, ip: 10.0.0.1}\n' >compose.yaml
    local said
    said=$("$BINARY" --compose-file compose.yaml --compose-project bad 2>&1)
    [ $? = 1 ] && grep -q 'compose.yaml:3:37' <<<"$said" && grep -q 'such as `10.0.0.1/24`' <<<"$said" &&
        [ ! -e /run/netns/conlink-bad ]
}

a_container_that_shares_anothers_namespace_has_its_links_there() {
    project share <<YAML || return 1
services:
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  side:
    image: conlink-node
    network_mode: "service:a"
    stop_grace_period: 0s
    x-network: {links: [{bridge: wan, dev: eth1, ip: 10.1.0.2/24}]}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.3/24}, {bridge: wan, dev: eth1, ip: 10.1.0.3/24}]}}
YAML
    start_engine share
    within 10 pings share-b-1 10.0.0.1 && within 10 pings share-b-1 10.1.0.2 && has_link share-side-1 eth0 >/dev/null &&
        docker kill share-side-1 >/dev/null && within 10 has_no_link share-a-1 eth1 && pings share-b-1 10.0.0.1 >/dev/null
}

an_interface_that_vanishes_comes_back() {
    project vanish <<YAML || return 1
services:
  a: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
  b: {$NODE, x-network: {links: [{bridge: lan, ip: 10.0.0.2/24}]}}
YAML
    start_engine vanish
    within 10 pings vanish-a-1 10.0.0.2 || return 1
    ip -n conlink-vanish link del lan && within 10 pings vanish-a-1 10.0.0.2 &&
        ip -n conlink-vanish link del a_1-eth0 && within 10 pings vanish-a-1 10.0.0.2
}

containers_are_attached_by_their_pipework_labels_after_each_restart() {
    project labels <<YAML || return 1
services:
  a: {$NODE, labels: {pipework_cmd: 'brlabels @CONTAINER_NAME@ 10.0.0.1/24'}}
  b: {$NODE, environment: {pipework_cmd: 'brlabels -i eth5 @CONTAINER_NAME@ 10.0.0.2/24'}}
YAML
    start_engine labels --pipework-labels
    within 10 has_link labels-a-1 eth1 && within 10 has_link labels-b-1 eth5 && ports_of brlabels 2 &&
        docker restart -t 0 labels-a-1 >/dev/null && within 10 has_link labels-a-1 eth1 && within 10 ports_of brlabels 2
    local code=$?
    # The bridge is in the network namespace of this machine.
    ip link del brlabels
    return "$code"
}

# Does the bridge have exactly this number of ports?
ports_of() { [ "$(ip -o link show master "$1" | wc -l)" = "$2" ]; }

the_engine_outlives_a_restart_of_docker() {
    # Only an engine that is ours may be restarted.
    [ -n "$DOCKERD_PID" ] || return 77
    project restart <<YAML || return 1
services:
  a: {$NODE, restart: always, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}]}}
YAML
    start_engine restart
    within 10 has_link restart-a-1 || return 1
    kill "$DOCKERD_PID"
    within 30 grep -q 'connection lost' "$WORK/engine.log" || return 1
    within 30 test ! -e "/proc/$DOCKERD_PID" || return 1
    start_dockerd && echo "$DOCKERD_PID" >"$WORK/dockerd.pid" && within 30 has_link restart-a-1 &&
        grep -q 'connected again' "$WORK/engine.log"
}

ten_kills_amid_the_wiring_of_fifty_containers_leave_nothing_behind() {
    project fifty <<YAML || return 1
services:
  h: {$NODE, scale: 50, x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}, {bridge: wan, dev: eth1, ip: 10.1.0.1/24}]}}
YAML
    docker exec -u 0 fifty-h-7 true || return 1
    local pid try plan
    pid=$(docker inspect -f '{{.State.Pid}}' fifty-h-7)
    # Somebody else's, under a name that looks like one of ours.
    nsenter -t "$pid" -n ip link add h_9-eth0 type bridge || return 1
    for try in $(seq 1 10); do
        start_engine fifty
        # Between the start and the end of the wiring, about a third of a second later.
        sleep "0.$(printf '%03d' $((20 + RANDOM % 280)))"
        end_engine KILL
        start_engine fifty
        within 20 connected || { cat "$WORK/engine.log"; return 1; }
        # What this engine wired is kept by the next; every other time all of it goes, to be wired from nothing.
        if [ $((try % 2)) = 0 ]; then
            end_engine TERM || return 1
            [ ! -e /run/netns/conlink-fifty ] || return 1
            [ "$(nsenter -t "$pid" -n ip -o link | wc -l)" = 2 ] || { nsenter -t "$pid" -n ip -o link; return 1; }
        else
            outer_ends conlink-fifty 100 || return 1
            end_engine KILL
        fi
    done
    "$BINARY" --compose-file compose.yaml --compose-project fifty --once >/dev/null 2>&1 || return 1
    plan=$("$BINARY" --compose-file compose.yaml --compose-project fifty --dry-run) && [ -z "$plan" ] &&
        pings fifty-h-7 10.0.0.50 >/dev/null && nsenter -t "$pid" -n ip link show h_9-eth0 >/dev/null &&
        start_engine fifty && within 10 connected && end_engine TERM
}

projects_of_compose_v1_are_wired() {
    command -v docker-compose >/dev/null || return 77
    mkdir -p "$WORK/vone" && cd "$WORK/vone" || return 1
    cat >compose.yaml <<YAML
version: "3.7"
services:
  a: {image: conlink-node, network_mode: none, stop_grace_period: 0s}
  b: {image: conlink-node, network_mode: none, stop_grace_period: 0s}
x-network:
  links:
    - {service: a, bridge: lan, ip: 10.0.0.1/24}
    - {service: b, bridge: lan, ip: 10.0.0.2/24}
YAML
    timeout 60 docker-compose -p vone -f compose.yaml up -d >"$WORK/compose.log" 2>&1 || { cat "$WORK/compose.log"; return 1; }
    start_engine vone
    within 10 pings vone_a_1 10.0.0.2
    local code=$?
    timeout 60 docker-compose -p vone -f compose.yaml down -t 1 >/dev/null 2>&1
    return $code
}

containers_of_podman_are_wired() {
    command -v podman >/dev/null || return 77
    mkdir -p "$WORK/podman" && cd "$WORK/podman" || return 1
    cat >net.yaml <<YAML
links:
  - {container: pod-a, bridge: lan, ip: 10.0.0.1/24}
  - {container: pod-b, bridge: lan, ip: 10.0.0.2/24}
commands:
  - {container: pod-a, command: echo wired}
YAML
    local podman=(podman --root "$WORK/podman/root" --runroot "$WORK/podman/run" --cgroup-manager cgroupfs
        --storage-driver vfs --events-backend file)
    tar -C "$SETUP_DIR/node" -c . | timeout 60 "${podman[@]}" import - node >"$WORK/podman.log" 2>&1 || return 77
    "${podman[@]}" system service --time=0 "unix://$WORK/podman/podman.sock" >>"$WORK/podman.log" 2>&1 &
    local service=$! code=1
    local run=("${podman[@]}" run -d --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000)
    within 10 test -S "$WORK/podman/podman.sock"
    if ! timeout 60 "${run[@]}" --name pod-a node /bin/sleep 1000 >>"$WORK/podman.log" 2>&1; then
        tail -3 "$WORK/podman.log"
        code=77
    else
        "$BINARY" --network-file net.yaml --docker-socket none --podman-socket "$WORK/podman/podman.sock" \
            --compose-project pod >"$WORK/engine.log" 2>&1 &
        ENGINE_PID=$!
        # One is there when the engine starts, the other comes later, by an event.
        within 10 connected && within 5 grep -q 'pod-a: wired' "$WORK/engine.log" &&
            timeout 60 "${run[@]}" --name pod-b node /bin/sleep 1000 >>"$WORK/podman.log" 2>&1 &&
            within 10 connected 2 && nsenter -t "$("${podman[@]}" inspect -f '{{.State.Pid}}' pod-a)" -n \
            busybox ping -c 1 -W 1 10.0.0.2 >/dev/null && code=0
        [ "$code" = 0 ] || cat "$WORK/engine.log" "$WORK/podman.log"
        end_engine TERM || code=1
    fi
    timeout 60 "${podman[@]}" rm -af -t 0 >/dev/null 2>&1
    kill "$service" && wait "$service" 2>/dev/null
    timeout 60 "${podman[@]}" rmi -af >/dev/null 2>&1
    # Podman keeps the monitor of a command that was run through its API for five minutes.
    local it
    for it in $(pgrep -f "conmon .*$WORK/podman"); do kill "$it" 2>/dev/null; done
    return $code
}

every_path_of_the_images_leads_to_its_tool() {
    local image path said size
    for image in conlink conlink:slim; do
        for path in /app/build/conlink.js /app/conlink conlink; do
            said=$(docker run --rm --network none "$image" "$path" --version) && [[ $said == conlink\ * ]] || return 1
        done
        for path in /utils/wait /utils/copy /utils/wait.sh /utils/copy.sh mdc net2dot wait copy resolve-deps; do
            # Whatever a tool answers, it must be that tool that answers.
            docker run --rm --network none "$image" "$path" --help >"$WORK/said" 2>&1
            grep -qi "$(basename "$path" .sh)" "$WORK/said" || { cat "$WORK/said"; return 1; }
        done
        [ "$(docker run --rm --network none "$image" /utils/echo two words)" = 'two words' ] || return 1
        size=$(docker image inspect -f '{{.Size}}' "$image")
        say "  image $image: $((size / 1024)) KiB"
    done
    # The last one has the binary once, whatever its names.
    [ "$size" -le $(($(stat -c %s "$BINARY") + 1000000)) ]
}

# As the suites of existing projects do.
programs_of_the_image_show_what_the_engine_made() {
    project shows <<YAML || return 1
services:
$(engine_service)
  node1: {$NODE, x-network: {links: [{bridge: cable, ip: 10.0.1.1/24}, {bridge: lan, dev: eth1, ip: 10.0.2.1/24}]}}
  node2: {$NODE, x-network: {links: [{bridge: cable, ip: 10.0.1.2/24}, {bridge: lan, dev: eth1, ip: 10.0.2.2/24}]}}
x-network: {bridges: [{bridge: cable, mode: patch}]}
YAML
    within 10 pings shows-node1-1 10.0.1.2 && within 10 pings shows-node1-1 10.0.2.2 || return 1
    local network=(compose -p shows exec -T network)
    "${network[@]}" tc filter show dev node1_1-eth0 parent ffff: | grep 'action order 1: mirred' &&
        "${network[@]}" sh -c 'tc filter show dev node2_1-eth0 parent ffff: | grep "action order 1: mirred"' &&
        "${network[@]}" sh -c 'ip -br link show master lan | grep node1_1-eth1' &&
        "${network[@]}" bash -c 'bridge link | grep -c "master lan"' &&
        "${network[@]}" ethtool -k node1_1-eth0 | grep tx-checksumming &&
        "${network[@]}" nft list ruleset || return 1
    "${network[@]}" timeout 10 tcpdump -c 1 -n -i node1_1-eth1 icmp >"$WORK/dump" 2>&1 &
    local dump=$!
    until ! kill -0 "$dump" 2>/dev/null; do pings shows-node1-1 10.0.2.2 >/dev/null; done
    grep '10.0.2.1 > 10.0.2.2: ICMP echo request' "$WORK/dump" || { cat "$WORK/dump"; return 1; }
}

tools_are_copied_out_of_the_image() {
    project tools <<YAML || return 1
services:
  extract:
    image: conlink
    network_mode: none
    volumes: ["tools:/conlink_utils"]
    command: cp /utils/wait /utils/wait.sh /utils/copy /utils/copy.sh /utils/echo /conlink_utils/
  user:
    $(sed 's/, /\n    /g' <<<"$NODE")
    depends_on: {extract: {condition: service_completed_successfully}}
    volumes: ["tools:/utils"]
    command: [/utils/wait, -f, /utils/echo, "--", /utils/echo, wait finished]
volumes: {tools: {}}
YAML
    [ "$(docker wait tools-user-1)" = 0 ] && docker logs tools-user-1 2>&1 | grep -qx 'wait finished' || return 1
    local image id
    for image in conlink conlink:slim; do
        id=$(docker create "$image") && docker cp "$id:/utils/wait" . && docker rm "$id" >/dev/null || return 1
        [ -f wait ] && [ ! -L wait ] && ./wait -f wait -- true || return 1
        rm wait
        printf 'FROM scratch\nCOPY --from=%s /utils/ /utils/\nCOPY --from=%s /utils/wait /one\n' "$image" "$image" >Dockerfile
        DOCKER_BUILDKIT=0 docker build --quiet --tag tools-copied . >/dev/null || return 1
        [ "$(docker run --rm --network none tools-copied /utils/wait -f /one -- /utils/echo copied)" = copied ] || return 1
        docker image rm -f tools-copied >/dev/null
    done
}

# A namespace of its own takes the host's place.
attach_in() { timeout 20 ip netns exec conlink-e2e "$BINARY" "$@"; }

a_container_is_attached_by_its_name() {
    project attached <<YAML || return 1
services:
  one: {$NODE}
  two: {$NODE}
YAML
    ip netns add conlink-e2e || return 1
    (
        one=(attach attached-one-1 --bridge br1 --ip 10.0.3.1/24 --ip fd03::1/64)
        attach_in "${one[@]}" | grep -Fx 'attached: docker:attached-one-1 eth1 10.0.3.1/24 fd03::1/64' &&
            attach_in "${one[@]}" | grep '^unchanged' &&
            attach_in pipework br1 attached-two-1 10.0.3.2/24,fd03::2/64@10.0.3.1 26:2e:71:98:60:8f || exit 1
        within 5 pings attached-one-1 10.0.3.2 && within 5 pings attached-one-1 fd03::2 &&
            docker exec attached-two-1 ip route | grep 'default via 10.0.3.1 dev eth1' &&
            docker exec attached-two-1 ip link show eth1 | grep 26:2e:71:98:60:8f &&
            attach_in attachments | grep 'docker:attached-two-1  eth1  veth  br1  up' || exit 1
        docker restart -t 0 attached-one-1 >/dev/null && has_no_link attached-one-1 eth1 &&
            attach_in "${one[@]}" | grep '^attached' && within 5 pings attached-one-1 10.0.3.2 || exit 1
        attach_in detach attached-one-1 && attach_in pipework --detach attached-two-1 &&
            [ "$(attach_in attachments | wc -l)" = 1 ] && has_no_link attached-two-1 eth1
    )
    local code=$?
    ip netns del conlink-e2e
    return "$code"
}

# ---- the runner

cleanup() {
    end_engine TERM
    local it
    for it in $(docker ps -aq --filter label=com.docker.compose.project 2>/dev/null); do
        case $(docker inspect -f '{{index .Config.Labels "com.docker.compose.project.working_dir"}}' "$it") in
            "$WORK"/* | "$ROOT"/modes-examples/*) docker rm -f "$it" >/dev/null 2>&1 ;;
        esac
    done
    [ -f "$WORK/dockerd.pid" ] && DOCKERD_PID=$(<"$WORK/dockerd.pid")
    stop_dockerd
    rm -rf "$WORK"
}

run_scenario() {
    local name=${1//_/ } code project started=$SECONDS
    (
        "$1"
        code=$?
        [ "$code" = 0 ] || [ "$code" = 77 ] || [ ! -f "$WORK/engine.log" ] || tail -30 "$WORK/engine.log"
        end_engine TERM
        project=$(basename "$PWD")
        [ "$PWD" = "$ROOT" ] || down "$project"
        exit "$code"
    ) >"$WORK/scenario.log" 2>&1
    code=$?
    [ -f "$WORK/dockerd.pid" ] && DOCKERD_PID=$(<"$WORK/dockerd.pid")
    case $code in
        0) PASSED=$((PASSED + 1)) && echo "ok $name ($((SECONDS - started)) s)" ;;
        77) SKIPPED=$((SKIPPED + 1)) && echo "SKIP $name: $(tail -1 "$WORK/scenario.log" | grep . || echo "a required program is missing")" ;;
        *) FAILED=$((FAILED + 1)) && echo "FAIL $name" && sed 's/^/    /' "$WORK/scenario.log" ;;
    esac
    rm -f "$WORK/engine.log"
}

trap cleanup EXIT
install_packages docker.io busybox-static bird2 iproute2 python3-minimal podman docker-compose || exit 1
install_compose && start_dockerd || exit 1
if [ -z "${SKIP_BUILD:-}" ]; then build_binary || exit 1; fi
make_node_image && make_images || exit 1
[ -d "$SETUP_DIR/node/bin" ] || { docker image rm -f conlink-node >/dev/null; make_node_image; }
make_bird_image || exit 1

for scenario in \
    every_path_of_the_images_leads_to_its_tool \
    programs_of_the_image_show_what_the_engine_made \
    tools_are_copied_out_of_the_image \
    each_example_comes_up_and_pings \
    two_replicas_become_five_and_then_one \
    a_restarted_and_a_killed_container_are_wired_again \
    no_ping_is_lost_when_the_engine_on_the_host_is_killed_and_started_again \
    a_second_start_on_a_converged_system_plans_nothing \
    the_engines_container_is_killed_and_everything_is_wired_again \
    a_client_that_waits_for_a_healthy_engine_needs_no_wait \
    the_engines_container_removes_what_it_made_when_it_stops \
    udp_ports_are_forwarded_to_each_replica_and_closed_when_it_goes \
    bridges_of_open_vswitch_carry_links_and_outlive_a_killed_switch \
    a_project_is_assembled_from_modes_and_changed_by_others \
    an_engine_without_pid_host_says_what_it_lacks \
    two_projects_side_by_side_do_not_touch_each_other \
    a_bad_file_is_refused_with_its_line \
    a_container_that_shares_anothers_namespace_has_its_links_there \
    an_interface_that_vanishes_comes_back \
    ten_kills_amid_the_wiring_of_fifty_containers_leave_nothing_behind \
    a_container_is_attached_by_its_name \
    projects_of_compose_v1_are_wired \
    containers_of_podman_are_wired \
    containers_are_attached_by_their_pipework_labels_after_each_restart \
    the_engine_outlives_a_restart_of_docker; do
    case $scenario in *"${1:-}"*) run_scenario "$scenario" ;; esac
done
if [ "$SKIPPED" = 0 ]; then echo "$PASSED passed, $FAILED failed"; else echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"; fi
[ "$FAILED" = 0 ]
