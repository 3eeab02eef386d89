#!/usr/bin/env bash
# What `net2dot --format mermaid` writes, read by Mermaid's own parser, which npm brings.
# CONLINK is the binary.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
CONLINK=${CONLINK:-$PWD/$(find target -path '*debug/conlink' -type f | head -1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v npm >/dev/null || ! (cd "$work" && timeout 120 npm install --silent mermaid@10 jsdom@22 >/dev/null 2>&1); then
    echo "SKIP mermaid: its parser cannot be had by npm here"
    exit 0
fi
for example in modes-examples/*/compose.yaml; do
    "$CONLINK" net2dot --format mermaid --compose-file "$example" -o "$work/$(basename "$(dirname "$example")").mmd" || exit 1
done
# Names that mean something to Mermaid.
cat >"$work/hostile.yaml" <<'YAML'
links:
  - {service: 'a "quoted" [b] {c} (d)', bridge: end, ip: 10.0.0.1/24}
  - {service: 'subgraph', bridge: end}
  - {service: 'x --> y; %% <b>&', bridge: 'sub'}
  - {container: 'größe-1', bridge: 'sub'}
tunnels: [{type: vxlan, bridge: end, remote: 'fd00::1', vni: 7}]
YAML
"$CONLINK" net2dot --format mermaid --network-file "$work/hostile.yaml" -o "$work/hostile.mmd" || exit 1
cat >"$work/parse.mjs" <<'JS'
import fs from 'fs';
import { JSDOM } from 'jsdom';
globalThis.window = new JSDOM('').window;
globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');
let passed = 0, failed = 0;
for (const file of process.argv.slice(2)) {
    try {
        await mermaid.parse(fs.readFileSync(file, 'utf8'));
        passed++;
    } catch (error) {
        failed++;
        console.log(`FAIL mermaid ${file}: ${error.message}`);
    }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
JS
timeout 60 node "$work/parse.mjs" "$work"/*.mmd
