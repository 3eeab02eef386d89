# shellcheck shell=bash
# Shared by the checks of the examples. Source it in the folder of an example whose project is running.

# Repeats a command until it succeeds, for up to 20 s: links are made after the container has started.
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

# Repeats a command in the container of a service until it succeeds. INDEX selects the replica [default: 1].
node() { eventually docker compose exec -T --index "${INDEX:-1}" "$@"; }

# Prints the process ID of a service's container.
node_pid() { docker inspect --format '{{.State.Pid}}' "$(docker compose ps -q "$1")"; }
