#!/usr/bin/env bash
# Fills a folder with what the image holds: one static binary, and its names where projects look for them.
# usage: stage-image.sh BINARY FOLDER
set -euo pipefail
binary=$1 stage=$2
rm -rf "$stage"
mkdir -p "$stage"/{bin,app/build,utils,run,tmp}
"$binary" install "$stage/bin" conlink copy mdc net2dot resolve-deps wait
ln -s ../../bin/conlink "$stage/app/build/conlink.js"
ln -s ../bin/conlink "$stage/app/conlink"
for name in wait copy wait.sh copy.sh; do ln -s ../bin/conlink "$stage/utils/$name"; done
