"""Changes that users and programs make by hand to a connected network, and the expected reaction of conlink."""

import os
import signal
from dataclasses import dataclass

# Within a second everything is repaired and conlink reports `connected`.
REPAIRED = "repaired"
# The change stays; within a second conlink reports `drifted` with a description, and is not healthy.
DRIFTED = "drifted"
# The change does not concern conlink: it stays, and conlink reports `connected`.
UNTOUCHED = "untouched"
# A foreign interface has replaced ours: it stays, and within a second conlink reports `failing` and is not healthy.
REFUSED = "refused"


@dataclass
class Drift:
    """Commands in namespaces (`bridges`, `host` or a service's first container), and the commands that undo them."""

    name: str
    expected: str
    commands: list
    back: list = None
    # A feature of the kernel, see `world.features`.
    needs: str = None
    # It adds something foreign, which a new start of conlink does not remove.
    by_hand: bool = False


def _(name, expected, commands, back=None, needs=None, by_hand=False):
    """Commands are lines of the form `PLACE: COMMAND`."""
    def parsed(lines):
        return [tuple(it.split(": ", 1)) for it in lines]
    return Drift(name, expected, parsed(commands), None if back is None else parsed(back), needs, by_hand)


DRIFTS = [
    # ---- the container's end: settings
    _("inner-down", DRIFTED, ["h: ip link set eth0 down"], None),
    _("inner-down-without-routes", DRIFTED, ["s: ip link set eth0 down"], ["s: ip link set eth0 up"]),
    _("inner-addresses-flushed", DRIFTED, ["r: ip addr flush dev eth1"], ["r: ip addr add 10.0.2.200/24 dev eth1"]),
    _("inner-address-deleted", DRIFTED, ["s: ip addr del 10.0.3.1/24 dev eth0"], ["s: ip addr add 10.0.3.1/24 dev eth0"]),
    _("inner-ipv6-address-deleted", DRIFTED, ["h: ip addr del fd01::1/64 dev eth0"],
      ["h: ip addr add fd01::1/64 dev eth0"]),
    _("inner-prefix-length", DRIFTED,
      ["s: ip addr del 10.0.3.1/24 dev eth0", "s: ip addr add 10.0.3.1/25 dev eth0"],
      ["s: ip addr del 10.0.3.1/25 dev eth0", "s: ip addr add 10.0.3.1/24 dev eth0"], by_hand=True),
    _("inner-route-deleted", DRIFTED, ["h: ip route del 10.9.0.0/16"],
      ["h: ip route add 10.9.0.0/16 via 10.0.1.200 proto 194"]),
    _("inner-route-replaced", DRIFTED, ["h: ip route replace 10.9.0.0/16 via 10.0.1.201"], None),
    _("default-route-deleted", DRIFTED, ["g: ip route del default via 10.0.2.200"], None),
    _("inner-route-by-another-hand", UNTOUCHED,
      ["h: ip route del 10.9.0.0/16", "h: ip route add 10.9.0.0/16 via 10.0.1.200"],
      ["h: ip route replace 10.9.0.0/16 via 10.0.1.200 proto 194"]),
    _("inner-arp", DRIFTED, ["h: ip link set eth0 arp off"], ["h: ip link set eth0 arp on"]),
    _("inner-mtu", DRIFTED, ["h: ip link set eth0 mtu 1300"], ["h: ip link set eth0 mtu 1400"]),
    _("inner-mac", DRIFTED, ["r: ip link set eth0 address 02:00:00:00:00:99"], None),
    _("rules-flushed", DRIFTED, ["n: nft flush ruleset"], None, "nft"),
    _("rule-deleted", DRIFTED, ["n: nft flush table inet conlink"], None, "nft"),
    _("inner-offload", DRIFTED, ["r: ethtool -K eth0 tx on"], ["r: ethtool -K eth0 tx off"], "ethtool"),
    _("netem-changed", DRIFTED, ["d: tc qdisc change dev eth0 root netem delay 7ms"], None, "netem"),
    _("netem-deleted", DRIFTED, ["d: tc qdisc del dev eth0 root"], None, "netem"),
    _("netem-replaced", DRIFTED, ["d: tc qdisc replace dev eth0 root tbf rate 1mbit burst 10k latency 1ms"], None, "netem"),
    _("outer-netem-deleted", DRIFTED, ["bridges: tc qdisc del dev d_1-eth0 root"], None, "netem"),
    _("macvlan-down", DRIFTED, ["m: ip link set eth0 down"], ["m: ip link set eth0 up"], "macvlan"),
    # ---- the container's end: deleted
    _("inner-deleted", REPAIRED, ["h: ip link del eth0"]),
    _("inner-renamed", REPAIRED, ["h: ip link set eth0 name other"]),
    _("inner-moved-away", REPAIRED, ["h: ip link set eth0 netns {r} name moved"]),
    _("inner-replaced-by-a-look-alike", REFUSED,
      ["s: ip link del eth0", "s: ip link add eth0 type bridge"], ["s: ip link del eth0"]),
    _("macvlan-deleted", REPAIRED, ["m: ip link del eth0"], None, "macvlan"),
    _("macvlan-s-parent-replaced", REPAIRED,
      ["host: ip link del up0", "host: ip link add up0 type veth peer name up1", "host: ip link set up0 up",
       "host: ip link set up1 up"], None, "macvlan"),
    _("both-ends-deleted", REPAIRED, ["h: ip link del eth0", "bridges: ip link del r_1-eth0"]),
    # ---- the outer end
    _("outer-down", DRIFTED, ["bridges: ip link set h_1-eth0 down"], ["bridges: ip link set h_1-eth0 up"]),
    _("outer-mtu", DRIFTED, ["bridges: ip link set h_1-eth0 mtu 1300"], ["bridges: ip link set h_1-eth0 mtu 1400"]),
    _("outer-blocked", DRIFTED, ["bridges: bridge link set dev h_1-eth0 state 0"],
      ["bridges: bridge link set dev h_1-eth0 state 3"]),
    _("outer-isolated", DRIFTED, ["bridges: bridge link set dev h_1-eth0 isolated on"],
      ["bridges: bridge link set dev h_1-eth0 isolated off"]),
    _("outer-deleted", REPAIRED, ["bridges: ip link del h_1-eth0"]),
    _("outer-renamed", REPAIRED, ["bridges: ip link set r_1-eth1 name elsewhere"]),
    _("outer-off-its-bridge", REPAIRED, ["bridges: ip link set h_1-eth0 nomaster"]),
    _("outer-on-another-bridge", REPAIRED, ["bridges: ip link set h_1-eth0 master wan"]),
    _("outer-moved-away", REPAIRED, ["bridges: ip link set h_1-eth0 netns {h}"]),
    # Without the mark conlink must not touch it.
    _("outer-mark-replaced", REFUSED, ["bridges: ip link set h_1-eth0 alias theirs"],
      ["bridges: ip link set h_1-eth0 alias conlink:campaign:campaign-h-1:eth0"]),
    _("host-outer-deleted", REPAIRED, ["host: ip link del s_1-eth0"]),
    _("host-outer-down", DRIFTED, ["host: ip link set s_1-eth0 down"], ["host: ip link set s_1-eth0 up"]),
    # ---- bridges and tunnels
    _("bridge-down", DRIFTED, ["bridges: ip link set lan down"], ["bridges: ip link set lan up"]),
    _("bridge-mtu", DRIFTED, ["bridges: ip link set lan mtu 1300"], ["bridges: ip link set lan mtu 1400"]),
    _("bridge-stp", DRIFTED, ["bridges: ip link set wan type bridge stp_state 1"],
      ["bridges: ip link set wan type bridge stp_state 0"]),
    _("bridge-ageing-time", DRIFTED, ["bridges: ip link set wan type bridge ageing_time 1000"],
      ["bridges: ip link set wan type bridge ageing_time 6000"]),
    _("bridge-deleted", REPAIRED, ["bridges: ip link del lan"]),
    _("bridge-renamed", REPAIRED, ["bridges: ip link set wan name elsewhere"]),
    _("bridge-replaced-by-a-look-alike", REFUSED,
      ["bridges: ip link del wan", "bridges: ip link add wan type veth peer name wan-peer"],
      ["bridges: ip link del wan"]),
    _("host-bridge-deleted", REPAIRED, ["host: ip link del shared"]),
    _("host-bridge-down", DRIFTED, ["host: ip link set shared down"], ["host: ip link set shared up"]),
    _("tunnel-down", DRIFTED, ["bridges: ip link set vxlan-7 down"], ["bridges: ip link set vxlan-7 up"], "vxlan"),
    _("tunnel-deleted", REPAIRED, ["bridges: ip link del vxlan-7"], None, "vxlan"),
    _("tunnel-off-its-bridge", REPAIRED, ["bridges: ip link set vxlan-7 nomaster"], None, "vxlan"),
    _("patch-filter-deleted", REPAIRED, ["bridges: tc filter del dev p_1-eth0 ingress"], None, "patch"),
    _("patch-qdisc-deleted", REPAIRED, ["bridges: tc qdisc del dev q_1-eth0 ingress"], None, "patch"),
    # ---- what is nobody's but its owner's
    _("foreign-address", UNTOUCHED, ["h: ip addr add 10.77.0.1/24 dev eth0"], ["h: ip addr del 10.77.0.1/24 dev eth0"]),
    _("foreign-route", UNTOUCHED, ["h: ip route add 10.78.0.0/16 dev dk0"], ["h: ip route del 10.78.0.0/16 dev dk0"]),
    _("foreign-qdisc", UNTOUCHED, ["h: tc qdisc add dev eth0 root tbf rate 1mbit burst 10k latency 1ms"],
      ["h: tc qdisc del dev eth0 root"], "tbf"),
    _("foreign-rules", UNTOUCHED, ["n: nft add table inet foreign"], ["n: nft delete table inet foreign"], "nft"),
    _("foreign-port", UNTOUCHED, ["bridges: ip link add x0 type veth peer name x1", "bridges: ip link set x0 master lan"],
      ["bridges: ip link del x0"]),
]


def perform(world, lines):
    """Runs the commands of a drift. `{SERVICE}` in one is the process id of that service's first container. Several are
    one change: an engine that runs is stopped meanwhile."""
    pids = {name.split("-")[1]: it.pid for name, it in world.containers.items() if name.endswith("-1")}
    is_held = len(lines) > 1 and world.engine is not None
    if is_held:
        os.kill(world.engine.pid, signal.SIGSTOP)
    try:
        for place, command in lines:
            target = place if place in ("bridges", "host") else world.node(place)
            world.ip(target, command.format(**pids))
    finally:
        if is_held:
            os.kill(world.engine.pid, signal.SIGCONT)
