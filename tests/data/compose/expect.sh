#!/bin/bash
# expect.sh COMPOSE: writes each case's expected.json, or error.txt, as that docker-compose binary answers; and its
# version to VERSION. Variables, paths and what is no merging stay out of it. No engine is needed.
set -eu
compose=$(realpath "$1")
cd "$(dirname "$0")"
"$compose" version --short >VERSION
for case in */; do
    (
        cd "$case"
        rm -f expected.json error.txt
        files=()
        for ((i = 1; ; i++)); do
            [ -e "$i.yaml" ] || break
            files+=(-f "$i.yaml")
        done
        if ! answer=$(env -i HOME=/nonexistent timeout 20 "$compose" "${files[@]}" config --no-interpolate \
            --no-path-resolution --no-normalize --no-consistency --no-env-resolution --format json 2>&1); then
            # Of a crash the first line is enough; paths differ from machine to machine.
            grep -v 'level=warning' <<<"$answer" | head -1 | sed "s|$PWD/||g" >error.txt
        else
            grep -v 'level=warning' <<<"$answer" >expected.json
        fi
    )
done
