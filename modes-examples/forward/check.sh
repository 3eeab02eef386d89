#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when each published port leads to its replica.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

# What a port of this machine answers to a request for a page.
page() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && tail -1 <&3
}
export -f page

for index in 1 2; do
    name=$(INDEX=$index node web hostname)
    said=$(eventually timeout 5 bash -c "[ \"\$(page $((18079 + index)))\" = $name ] && page $((18079 + index))")
    echo "port $((18079 + index)) is answered by $said"
done
