#!/usr/bin/env bash
# Fills a folder with the files of the image: the binary, and its names where projects expect them.
# usage: stage-image.sh BINARY FOLDER
set -euo pipefail
umask 022
binary=$1 stage=$2
rm -rf "$stage"
mkdir -p "$stage"/{bin,app/build,utils,run,tmp,var}
chmod 1777 "$stage/tmp"
ln -s ../run "$stage/var/run"
"$binary" install "$stage/bin" conlink copy mdc net2dot resolve-deps wait
# Hard links, not symbolic ones: projects copy single files out of /utils.
ln "$stage/bin/conlink" "$stage/app/build/conlink.js"
ln "$stage/bin/conlink" "$stage/app/conlink"
for name in copy copy.sh echo wait wait.sh; do ln "$stage/bin/conlink" "$stage/utils/$name"; done
