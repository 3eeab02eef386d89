#!/usr/bin/env bash
# Called when the project is up, in this folder: exits 0 when the client has had its page, and everything is what it
# should have become.
set -euo pipefail
# shellcheck source=modes-examples/check.sh
. ../check.sh

node client grep 'a templated page, served at 10.0.1.1; {{THIS}} is no variable' /tmp/page
# A mount of the engine's, which no file can be renamed over.
node client grep '^10.0.1.1 web$' /etc/hosts >/dev/null
# The first process is the program itself.
node web sh -c 'tr "\0" " " </proc/1/cmdline | grep "^busybox httpd"' >/dev/null
node client sh -c 'tr "\0" " " </proc/1/cmdline | grep "^sleep"' >/dev/null
