//! Rules of address translation.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::addr::IfName;

/// The protocol of a forwarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Every protocol with its name.
    pub const NAMES: &[(&str, Self)] = &[("tcp", Self::Tcp), ("udp", Self::Udp)];

    /// Its number in IP headers (RFC 790).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One rule of ours in the table `conlink` (nf_tables, family inet) of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatRule {
    /// The mark of its link, `conlink:PROJECT:CONTAINER:DEV`; at most [`NatRule::MARK_MAX`] bytes, none
    /// of them zero.
    pub mark: String,
    pub action: NatAction,
}

impl NatRule {
    /// The longest mark that a rule can carry, in bytes: the kernel keeps 256 with a rule (NFT_USERDATA_MAXLEN), of
    /// which two say what they are.
    pub const MARK_MAX: usize = 254;
}

/// What a rule does with the connections that it matches. Both addresses of one rule are of the same family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatAction {
    /// Everything that arrives on `dev` goes to `to`.
    Dnat { dev: IfName, to: IpAddr },
    /// What leaves by `dev` comes from `from`.
    Snat { dev: IfName, from: IpAddr },
    /// What arrives for the namespace's own addresses at `port` goes on to `to`.
    Forward { protocol: Protocol, port: u16, to: SocketAddr },
    /// The same of what the namespace itself sends; not to `::1`, which the kernel passes on to no other interface.
    ForwardOwn { protocol: Protocol, port: u16, to: SocketAddr },
    /// What arrives on `dev` for an address in 127.0.0.0/8, or with `source` from one, is dropped before anything else: such
    /// an address is never on the wire, and the interface lets it in (`route_localnet`).
    Guard { dev: IfName, source: bool },
    /// Connections that a rule sent on to `to` leave by `dev` and come from `from`.
    ForwardSource { dev: IfName, protocol: Protocol, to: SocketAddr, from: IpAddr },
    /// A rule with a mark of ours that does none of these: somebody changed it, or where it is, or there are two
    /// alike. It is seen in a namespace, and may be deleted; none is ever added.
    Other {
        /// The kernel's number of the rule within the table.
        handle: u64,
    },
}

impl NatAction {
    /// Whether it is part of a forwarded port, or of a link's `nat`; of [`NatAction::Other`] that is not known.
    pub fn is_forward(&self) -> Option<bool> {
        match self {
            Self::Forward { .. }
            | Self::ForwardOwn { .. }
            | Self::ForwardSource { .. }
            | Self::Guard { .. } => Some(true),
            Self::Dnat { .. } | Self::Snat { .. } => Some(false),
            Self::Other { .. } => None,
        }
    }

    /// The chain that holds such a rule; of [`NatAction::Other`] that is not known.
    pub fn chain(&self) -> Option<NatChain> {
        match self {
            Self::Dnat { .. } | Self::Forward { .. } => Some(NatChain::Prerouting),
            Self::ForwardOwn { .. } => Some(NatChain::Output),
            Self::Guard { .. } => Some(NatChain::Guard),
            Self::Snat { .. } | Self::ForwardSource { .. } => Some(NatChain::Postrouting),
            Self::Other { .. } => None,
        }
    }
}

/// The chains of the table `conlink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatChain {
    /// Destinations, before it is known where a packet goes: `type nat hook prerouting priority dstnat`.
    Prerouting,
    /// Sources, once it is known: `type nat hook postrouting priority srcnat`.
    Postrouting,
    /// Destinations of what the namespace itself sends: `type nat hook output priority -100`.
    Output,
    /// What must not come in, before connections are known: `type filter hook prerouting priority raw`.
    Guard,
}

impl NatChain {
    pub const ALL: [Self; 4] = [Self::Prerouting, Self::Postrouting, Self::Output, Self::Guard];

    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Postrouting => "postrouting",
            Self::Output => "output",
            Self::Guard => "guard",
        }
    }
}

impl fmt::Display for NatChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What follows `nft add rule inet conlink`, and for [`NatAction::Other`] what tells it from others.
impl fmt::Display for NatRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chain) = self.action.chain() {
            write!(f, "{chain} ")?;
        }
        write!(f, "{} comment \"{}\"", self.action, self.mark)
    }
}

/// The rule's text as `nft list ruleset` shows it.
impl fmt::Display for NatAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dnat { dev, to } => {
                let (dev, family) = (Quoted(dev), Family(*to));
                write!(f, "iifname {dev} meta nfproto {} dnat {family} to {to}", family.nfproto())
            }
            Self::Snat { dev, from } => {
                let (dev, family) = (Quoted(dev), Family(*from));
                write!(f, "oifname {dev} meta nfproto {} snat {family} to {from}", family.nfproto())
            }
            Self::Forward { protocol, port, to } => {
                let family = Family(to.ip());
                let nfproto = family.nfproto();
                write!(f, "meta nfproto {nfproto} {protocol} dport {port} fib daddr type local ")?;
                write!(f, "dnat {family} to {to}")
            }
            Self::ForwardOwn { protocol, port, to } => {
                let family = Family(to.ip());
                let nfproto = family.nfproto();
                match to.is_ipv6() {
                    true => f.write_str("ip6 daddr != ::1 ")?,
                    false => write!(f, "meta nfproto {nfproto} ")?,
                }
                write!(f, "{protocol} dport {port} fib daddr type local dnat {family} to {to}")
            }
            Self::Guard { dev, source } => {
                let field = if *source { "saddr" } else { "daddr" };
                write!(f, "iifname {} ip {field} 127.0.0.0/8 drop", Quoted(dev))
            }
            Self::ForwardSource { dev, protocol, to, from } => {
                let (dev, family, addr, port) = (Quoted(dev), Family(to.ip()), to.ip(), to.port());
                write!(f, "oifname {dev} ct status dnat {family} daddr {addr} {protocol} dport {port} ")?;
                write!(f, "snat {} to {from}", Family(*from))
            }
            Self::Other { handle } => write!(f, "handle {handle}"),
        }
    }
}

/// The family of an address, by the name that nft has for its headers.
struct Family(IpAddr);

impl Family {
    /// The same by the name that nft has for the netfilter protocol.
    fn nfproto(&self) -> &'static str {
        if self.0.is_ipv4() { "ipv4" } else { "ipv6" }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_ipv4() { "ip" } else { "ip6" })
    }
}

/// A name for nft to read: a bare `*` at its end would stand for any end.
struct Quoted<'a>(&'a IfName);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str().strip_suffix('*') {
            Some(start) => write!(f, "\"{start}\\*\""),
            None => write!(f, "\"{}\"", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: NatAction, expected: &str) {
        assert_eq!(NatRule { mark: "conlink:p:c:eth0".to_owned(), action }.to_string(), expected);
    }

    #[test]
    fn rules_read_as_nft_writes_them() {
        let dev = |it: &str| it.parse::<IfName>().unwrap();
        let addr = |it: &str| it.parse::<IpAddr>().unwrap();
        let socket = |it: &str| it.parse::<SocketAddr>().unwrap();
        check(
            NatAction::Dnat { dev: dev("eth0"), to: addr("10.2.0.2") },
            "prerouting iifname \"eth0\" meta nfproto ipv4 dnat ip to 10.2.0.2 comment \"conlink:p:c:eth0\"",
        );
        check(
            NatAction::Snat { dev: dev("et*h*"), from: addr("fd00::1") },
            "postrouting oifname \"et*h\\*\" meta nfproto ipv6 snat ip6 to fd00::1 comment \"conlink:p:c:eth0\"",
        );
        check(
            NatAction::Forward { protocol: Protocol::Udp, port: 53, to: socket("[fd00::2]:5353") },
            "prerouting meta nfproto ipv6 udp dport 53 fib daddr type local dnat ip6 to [fd00::2]:5353 \
             comment \"conlink:p:c:eth0\"",
        );
        check(
            NatAction::ForwardSource {
                dev: dev("lan"),
                protocol: Protocol::Tcp,
                to: socket("10.2.0.2:80"),
                from: addr("10.2.0.254"),
            },
            "postrouting oifname \"lan\" ct status dnat ip daddr 10.2.0.2 tcp dport 80 snat ip to 10.2.0.254 \
             comment \"conlink:p:c:eth0\"",
        );
        check(
            NatAction::ForwardOwn { protocol: Protocol::Tcp, port: 8080, to: socket("[fd00::2]:80") },
            "output ip6 daddr != ::1 tcp dport 8080 fib daddr type local dnat ip6 to [fd00::2]:80 \
             comment \"conlink:p:c:eth0\"",
        );
        check(
            NatAction::Guard { dev: dev("lan"), source: true },
            "guard iifname \"lan\" ip saddr 127.0.0.0/8 drop comment \"conlink:p:c:eth0\"",
        );
        check(NatAction::Other { handle: 7 }, "handle 7 comment \"conlink:p:c:eth0\"");
    }
}
