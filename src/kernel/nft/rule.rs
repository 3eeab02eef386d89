//! Actions of rules, and their nf_tables expressions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::expr::{Expr, REG_1, REG_2};
use crate::addr::IfName;
use crate::nat::{NatAction, NatChain, Protocol};

const EQ: u32 = libc::NFT_CMP_EQ as u32;
const NEQ: u32 = libc::NFT_CMP_NEQ as u32;
const IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
const OIFNAME: u32 = libc::NFT_META_OIFNAME as u32;
const NFPROTO: u32 = libc::NFT_META_NFPROTO as u32;
const L4PROTO: u32 = libc::NFT_META_L4PROTO as u32;
const SNAT: u32 = libc::NFT_NAT_SNAT as u32;
const DNAT: u32 = libc::NFT_NAT_DNAT as u32;
/// The status bits of the connection. IPS_DST_NAT: its destination was changed.
const STATUS: Expr = Expr::Ct { key: libc::NFT_CT_STATUS as u32 };
const IPS_DST_NAT: u32 = 1 << 5;
/// NFTA_FIB_F_DADDR and NFT_FIB_RESULT_ADDRTYPE: the type of the destination address.
const DESTINATION_TYPE: Expr = Expr::Fib { flags: 1 << 1, result: 3 };
/// RTN_LOCAL: an address of this namespace.
const LOCAL: u32 = 2;
/// The destination port, at the same offset for TCP and UDP.
const PORT: Expr = Expr::Payload { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32, offset: 2, length: 2 };

/// The expressions of an action, in the same order as `nft` writes them. None for actions that cannot be a rule of
/// ours: [`NatAction::Other`], addresses of different families, and addresses that need a scope.
pub(super) fn encode(action: &NatAction) -> Option<Vec<Expr>> {
    Some(match action {
        NatAction::Dnat { dev, to } => [is_name(IIFNAME, dev), is_family(*to), nat(DNAT, *to, None)].concat(),
        NatAction::Snat { dev, from } => {
            [is_name(OIFNAME, dev), is_family(*from), nat(SNAT, *from, None)].concat()
        }
        NatAction::Forward { protocol, port, to } => {
            let (addr, to_port) = unscoped(to)?;
            let matches =
                [is_family(addr), is_port(*protocol, *port), is(DESTINATION_TYPE, &LOCAL.to_ne_bytes())];
            [matches.concat(), nat(DNAT, addr, Some(to_port))].concat()
        }
        NatAction::ForwardOwn { protocol, port, to } => {
            let (addr, to_port) = unscoped(to)?;
            let mut matches = is_family(addr);
            if addr.is_ipv6() {
                let loopback = octets(IpAddr::V6(Ipv6Addr::LOCALHOST));
                matches.extend([destination(addr), Expr::Cmp { op: NEQ, value: loopback }]);
            }
            matches.extend(is_port(*protocol, *port));
            matches.extend(is(DESTINATION_TYPE, &LOCAL.to_ne_bytes()));
            [matches, nat(DNAT, addr, Some(to_port))].concat()
        }
        NatAction::Guard { dev, source } => {
            // One byte of the address is enough.
            let offset = if *source { 12 } else { 16 };
            let first = Expr::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER as u32, offset, length: 1 };
            let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
            [is_name(IIFNAME, dev), is_family(localhost), is(first, &[127]), vec![Expr::Drop]].concat()
        }
        NatAction::ForwardSource { dev, protocol, to, from } => {
            let (addr, port) = unscoped(to)?;
            if addr.is_ipv4() != from.is_ipv4() {
                return None;
            }
            let translated = vec![
                STATUS,
                Expr::Bitwise { mask: IPS_DST_NAT.to_ne_bytes().to_vec(), xor: vec![0; 4] },
                Expr::Cmp { op: NEQ, value: vec![0; 4] },
            ];
            let destination = is(destination(addr), &octets(addr));
            let matches =
                [is_name(OIFNAME, dev), translated, is_family(addr), destination, is_port(*protocol, port)];
            [matches.concat(), nat(SNAT, *from, None)].concat()
        }
        NatAction::Other { .. } => return None,
    })
}

/// The action that consists of exactly these expressions.
pub(super) fn decode(chain: &str, exprs: &[Expr]) -> Option<NatAction> {
    let parts = Parts::read(exprs);
    let action = if chain == NatChain::Guard.name() {
        let dev = parts.iifname?;
        NatAction::Guard { dev, source: matches!(exprs, [_, _, _, _, Expr::Payload { offset: 12, .. }, ..]) }
    } else {
        match parts.action()? {
            NatAction::Forward { protocol, port, to } if chain == NatChain::Output.name() => {
                NatAction::ForwardOwn { protocol, port, to }
            }
            action => action,
        }
    };
    // The comparison also checks the order, the operators and the absence of other expressions.
    (action.chain()?.name() == chain && encode(&action)? == exprs).then_some(action)
}

fn is(load: Expr, value: &[u8]) -> Vec<Expr> {
    vec![load, Expr::Cmp { op: EQ, value: value.to_vec() }]
}

/// Compares with exactly this name, in all 16 bytes.
fn is_name(key: u32, name: &IfName) -> Vec<Expr> {
    let mut value = name.as_str().as_bytes().to_vec();
    value.resize(libc::IFNAMSIZ, 0);
    is(Expr::Meta { key }, &value)
}

fn is_family(addr: IpAddr) -> Vec<Expr> {
    is(Expr::Meta { key: NFPROTO }, &[family(addr) as u8])
}

fn is_port(protocol: Protocol, port: u16) -> Vec<Expr> {
    [is(Expr::Meta { key: L4PROTO }, &[protocol.number()]), is(PORT, &port.to_be_bytes())].concat()
}

fn nat(kind: u32, addr: IpAddr, port: Option<u16>) -> Vec<Expr> {
    let mut exprs = vec![Expr::Immediate { register: REG_1, value: octets(addr) }];
    exprs.extend(port.map(|it| Expr::Immediate { register: REG_2, value: it.to_be_bytes().to_vec() }));
    exprs.push(Expr::Nat { kind, family: family(addr), addr: REG_1, port: port.map(|_| REG_2) });
    exprs
}

/// NFPROTO_IPV4 or NFPROTO_IPV6.
fn family(addr: IpAddr) -> u32 {
    let family = if addr.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
    family.cast_unsigned()
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

/// The destination address in the header of that family.
fn destination(addr: IpAddr) -> Expr {
    let base = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
    match addr {
        IpAddr::V4(_) => Expr::Payload { base, offset: 16, length: 4 },
        IpAddr::V6(_) => Expr::Payload { base, offset: 24, length: 16 },
    }
}

/// Address and port; None if it has a scope or a flow label.
fn unscoped(to: &SocketAddr) -> Option<(IpAddr, u16)> {
    (*to == SocketAddr::new(to.ip(), to.port())).then(|| (to.ip(), to.port()))
}

/// The values of a rule's single expressions.
#[derive(Default)]
struct Parts {
    iifname: Option<IfName>,
    oifname: Option<IfName>,
    protocol: Option<Protocol>,
    port: Option<u16>,
    destination: Option<IpAddr>,
    to_addr: Option<IpAddr>,
    to_port: Option<u16>,
}

impl Parts {
    fn read(exprs: &[Expr]) -> Self {
        let mut parts = Self::default();
        let mut loaded = None;
        for expr in exprs {
            match expr {
                Expr::Cmp { value, .. } => match loaded {
                    Some(Expr::Meta { key: IIFNAME }) => parts.iifname = name(value),
                    Some(Expr::Meta { key: OIFNAME }) => parts.oifname = name(value),
                    Some(Expr::Meta { key: L4PROTO }) => parts.protocol = protocol(value),
                    Some(PORT) => parts.port = port(value),
                    Some(Expr::Payload { .. }) => parts.destination = addr(value),
                    _ => {}
                },
                Expr::Immediate { register: REG_1, value } => parts.to_addr = addr(value),
                Expr::Immediate { value, .. } => parts.to_port = port(value),
                Expr::Nat { .. } | Expr::Drop => {}
                load => loaded = Some(load.clone()),
            }
        }
        parts
    }

    fn action(self) -> Option<NatAction> {
        let addr = self.to_addr?;
        Some(match (self.iifname, self.oifname, self.protocol, self.port) {
            (Some(dev), None, None, None) => NatAction::Dnat { dev, to: addr },
            (None, Some(dev), None, None) => NatAction::Snat { dev, from: addr },
            (None, None, Some(protocol), Some(port)) => {
                NatAction::Forward { protocol, port, to: SocketAddr::new(addr, self.to_port?) }
            }
            (None, Some(dev), Some(protocol), Some(port)) => {
                let to = SocketAddr::new(self.destination?, port);
                NatAction::ForwardSource { dev, protocol, to, from: addr }
            }
            _ => return None,
        })
    }
}

fn name(value: &[u8]) -> Option<IfName> {
    let text = value.split(|it| *it == 0).next()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn protocol(value: &[u8]) -> Option<Protocol> {
    Protocol::NAMES.iter().map(|(_, it)| *it).find(|it| value == [it.number()])
}

fn port(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.try_into().ok()?))
}

fn addr(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// Hook and priority of a chain: NF_INET_…, and `dstnat`, `srcnat` or `raw` (`enum nf_ip_hook_priorities`).
pub(super) fn hook(chain: NatChain) -> (u32, i32) {
    match chain {
        NatChain::Prerouting => (libc::NF_INET_PRE_ROUTING.cast_unsigned(), -100),
        NatChain::Postrouting => (libc::NF_INET_POST_ROUTING.cast_unsigned(), 100),
        NatChain::Output => (libc::NF_INET_LOCAL_OUT.cast_unsigned(), -100),
        NatChain::Guard => (libc::NF_INET_PRE_ROUTING.cast_unsigned(), -300),
    }
}

/// The type of a chain, by name.
pub(super) fn kind(chain: NatChain) -> &'static str {
    match chain {
        NatChain::Prerouting | NatChain::Postrouting | NatChain::Output => "nat",
        NatChain::Guard => "filter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::attribute::{Attributes, Received};

    #[test]
    fn a_rule_with_any_changed_bit_is_not_read_as_the_same_action() {
        let action = NatAction::ForwardSource {
            dev: "eth0".parse().unwrap(),
            protocol: Protocol::Udp,
            to: "[fd00::2]:53".parse().unwrap(),
            from: "fd00::1".parse().unwrap(),
        };
        let mut list = Attributes::default();
        encode(&action).unwrap().iter().fold(&mut list, |list, expr| expr.write(list));
        let chain = NatChain::Postrouting.name();
        let read = |bytes: &[u8]| decode(chain, &Expr::read_list(Received(bytes))?);
        assert_eq!(read(list.as_bytes()), Some(action.clone()));
        assert_eq!(decode(NatChain::Prerouting.name(), &encode(&action).unwrap()), None);
        for idx in 0..list.as_bytes().len() {
            for bit in 0..8 {
                let mut bytes = list.as_bytes().to_vec();
                bytes[idx] ^= 1 << bit;
                let exprs = Expr::read_list(Received(&bytes));
                // Padding bytes and some flags have no meaning.
                if read(&bytes) == Some(action.clone()) {
                    assert_eq!(exprs, encode(&action), "bit {bit} of byte {idx}");
                }
            }
            read(&list.as_bytes()[..idx]);
        }
    }
}
