#!/bin/sh
# Writes captures.txt: for each line of options.txt what `tc` sends as TCA_OPTIONS, and what the kernel then reports.
#
#   capture.sh TC < options.txt > captures.txt
#
# As root, in a network namespace of its own (`unshare -n`), with an interface TC_DEV (default: lo) that may get the
# netem. Needs strace, and the module netlink_diag, by which that tells one kind of netlink from another. The second
# half needs a kernel with netem.
#
#   OPTIONS
#   ! what tc refuses them with
#   > hex that tc sends
#   < hex that the kernel reports
#
# Distributions are in files of iproute2 that are not ours to copy: a table is replaced by its length in brackets.
dev=${TC_DEV:-lo}
tc=${1:-tc}
trace=$(mktemp)

# The value of the attribute TCA_OPTIONS in the trace of one message.
options() {
    sed -nE 's/.*nla_type=TCA_OPTIONS\}, "([^"]*)".*/\1/p' "$trace" | tail -n 1 | sed 's/\\x//g' | awk '
        # TCA_NETEM_DELAY_DIST, then TCA_NETEM_SLOT_DIST: header, then two digits a byte.
        function cut(header,    at) {
            at = index($0, header)
            if (at) $0 = substr($0, 1, at + 7) "[8192]" substr($0, at + 8 + 16384)
        }
        { cut("04200200"); cut("04200d00"); print }'
}

while read -r line; do
    [ -n "$line" ] || continue
    echo "$line"
    # shellcheck disable=SC2086 # words are what tc wants
    strace -xx -s 100000 -e trace=sendmsg -o "$trace" "$tc" qdisc add dev "$dev" root netem $line 2>"$trace.err"
    status=$?
    sent=$(options)
    if [ -z "$sent" ]; then
        echo "! $(head -n 1 "$trace.err")"
        continue
    fi
    echo "> $sent"
    [ $status -eq 0 ] || continue
    strace -xx -s 100000 -e trace=recvmsg -o "$trace" "$tc" qdisc show dev "$dev" root >/dev/null
    echo "< $(options)"
    "$tc" qdisc del dev "$dev" root
done
rm -f "$trace" "$trace.err"
