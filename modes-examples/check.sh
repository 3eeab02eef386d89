# shellcheck shell=bash
# What the examples' checks share. Sourced in an example's folder, its project up.

# Runs a command again until it succeeds: links come after the container's start.
eventually() {
    local end=$((SECONDS + 20)) output
    until output=$(timeout 20 "$@" 2>&1); do
        [ "$SECONDS" -lt "$end" ] || {
            printf '%s\n' "$output" >&2
            return 1
        }
        sleep 0.2
    done
    printf '%s\n' "$output"
}

# Eventually runs a command in the container of a service (its replica INDEX, 1 if not set).
node() { eventually docker compose exec -T --index "${INDEX:-1}" "$@"; }

# The first process of a service's container.
node_pid() { docker inspect --format '{{.State.Pid}}' "$(docker compose ps -q "$1")"; }
