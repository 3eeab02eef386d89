#!/usr/bin/env bash
# Builds the images from a fresh clone, without a registry:
#   conlink, conlink:tools   the engine and what projects run beside it: sh, ip, tc, nft, tcpdump, ethtool, ovs-vsctl
#   conlink:slim             the engine alone: one static file under several names
# usage: image.sh     on Debian, with cargo and Docker; BINARY=FILE takes a binary that is built already
set -euo pipefail
BINARY=${BINARY:+$(realpath "$BINARY")}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "$BINARY" ]; then
    echo "building conlink" >&2
    cargo build --release --bin conlink
    BINARY=${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/release/conlink
fi
echo "collecting the files of the images" >&2
modes-examples/stage-image.sh "$BINARY" target/image-slim
modes-examples/stage-image.sh "$BINARY" target/image
modes-examples/stage-tools.sh target/image
echo "building the images" >&2
docker build --quiet --build-arg STAGE=target/image-slim --tag conlink:slim .
docker build --quiet --tag conlink --tag conlink:tools .
