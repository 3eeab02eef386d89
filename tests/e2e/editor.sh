#!/usr/bin/env bash
# What an editor shows with `conlink schema --compose`: yaml-language-server, which npm brings, is driven over its
# standard streams. CONLINK is the binary.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
CONLINK=${CONLINK:-$PWD/$(find target -path '*debug/conlink' -type f | head -1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v npm >/dev/null || ! (cd "$work" && timeout 120 npm install --silent yaml-language-server@1 >/dev/null 2>&1); then
    echo "SKIP editor: npm cannot install yaml-language-server here"
    exit 0
fi
"$CONLINK" schema --compose >"$work/conlink.schema.json" || exit 1
cat >"$work/compose.yaml" <<'YAML'
services:
  h1:
    image: node
    x-network:
      links:
        - brige: lan
          ip: 10.0.1.1
          mac: 01:00
          dev: an-interface-name
          mtu: 12
          nat: 10.0.1
          forward: 80:80
          base: guest
        - bridge: lan
          ip: 127.0.0.1/8
          n
x-network:
  links:
    - bridge: lan
    - {service: h1, container: h1, bridge: lan}
  bridges:
    - bridge: lan
      mode: patch
      stp: true
YAML
timeout 60 python3 tests/e2e/editor.py "$work"
