# shellcheck shell=bash
# What the examples' checks share. Sourced in an example's folder, its project up.

# Runs a command in the container of a service (its replica INDEX, 1 if not set), again until it succeeds: links come
# after the container's start.
node() {
    local service=$1 try
    shift
    for try in $(seq 1 50); do
        # The last try shows what is wrong.
        if [ "$try" = 50 ]; then
            timeout 20 docker compose exec -T --index "${INDEX:-1}" "$service" "$@"
            return
        fi
        if output=$(timeout 20 docker compose exec -T --index "${INDEX:-1}" "$service" "$@" 2>/dev/null); then
            printf '%s\n' "$output"
            return
        fi
        sleep 0.2
    done
}

# The first process of a service's container.
node_pid() { docker inspect --format '{{.State.Pid}}' "$(docker compose ps -q "$1")"; }
