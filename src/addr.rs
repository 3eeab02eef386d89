//! Names and addresses, valid once they are parsed.
//!
//! Architecture invariant: a value of these types is always valid, so lower layers do not check it again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network interface name.
///
/// Invariant: 1 to 15 bytes, no `/`, no `:`, no white space, and neither `.` nor `..`
/// (`dev_valid_name()` in the kernel's `net/core/dev.c`); no `%` either, which the kernel puts numbers in the place of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// The text is not an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIfName {
    #[error("an interface name is at most 15 bytes, this has {0}")]
    Long(usize),
    #[error("an interface name cannot be empty")]
    Empty,
    #[error("an interface name cannot be `{0}`")]
    Dots(String),
    #[error("an interface name cannot hold {0:?}")]
    Char(char),
    #[error("an interface name cannot hold the byte 0xa0, as `{0}` does: the kernel takes it for a space")]
    Space(String),
    #[error("`lo` is the loopback interface of every network namespace")]
    Loopback,
    #[error("the kernel reserves the name `{0}` for settings in /proc/sys/net")]
    Reserved(String),
}

impl IfName {
    /// The longest name the kernel takes, in bytes (`IFNAMSIZ` less the closing zero).
    pub const MAX: usize = 15;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of 14 bytes, the same in each run: two letters and a hash of the words.
    pub fn hashed(letters: &str, words: &[&str]) -> Self {
        let hash: String = Mac::stable(words).bytes().iter().map(|it| format!("{it:02x}")).collect();
        Self(format!("{letters}{hash}"))
    }

    /// The name, if an interface of that name can be made: the kernel has a `lo` in every namespace, and takes neither
    /// `all` nor `default` (`sysctl_dev_name_is_allowed()` in `include/linux/inetdevice.h`).
    pub fn to_make(self) -> Result<Self, BadIfName> {
        match self.as_str() {
            "lo" => Err(BadIfName::Loopback),
            "all" | "default" => Err(BadIfName::Reserved(self.0)),
            _ => Ok(self),
        }
    }
}

impl FromStr for IfName {
    type Err = BadIfName;

    fn from_str(text: &str) -> Result<Self, BadIfName> {
        if text.is_empty() {
            return Err(BadIfName::Empty);
        }
        if text == "." || text == ".." {
            return Err(BadIfName::Dots(text.to_owned()));
        }
        let is_bad = |it: &char| matches!(it, '/' | ':' | '%') || it.is_whitespace() || it.is_control();
        if let Some(bad) = text.chars().find(is_bad) {
            return Err(BadIfName::Char(bad));
        }
        // The kernel looks at bytes, and takes this one for a space wherever it stands (`isspace()`).
        if text.bytes().any(|it| it == 0xa0) {
            return Err(BadIfName::Space(text.to_owned()));
        }
        if text.len() > Self::MAX {
            return Err(BadIfName::Long(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address that an interface can have: neither a group address nor all zeros
/// (`is_valid_ether_addr()` in the kernel's `include/linux/etherdevice.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// The text is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMac {
    #[error("expected a MAC address, such as `02:00:00:00:00:01`")]
    Form,
    #[error("expected the MAC address of one interface, found a group address (its first byte is odd)")]
    Group,
    #[error("expected the MAC address of an interface, found zeros")]
    Zero,
}

impl Mac {
    /// Checks the six bytes of an address.
    pub fn new(bytes: [u8; 6]) -> Result<Self, BadMac> {
        if bytes[0] & 1 == 1 {
            Err(BadMac::Group)
        } else if bytes == [0; 6] {
            Err(BadMac::Zero)
        } else {
            Ok(Self(bytes))
        }
    }

    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The address that is the same each time for the same `seed`: `c2` (locally administered) and 40 bits of
    /// the seed's FNV-1a hash.
    pub fn stable(seed: &[&str]) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for part in seed {
            // A zero byte ends each part, so that ("ab", "c") and ("a", "bc") differ.
            for byte in part.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        // The high bits of FNV-1a mix worse than the low ones: fold them in.
        let [_, _, _, a, b, c, d, e] = (hash ^ (hash >> 40)).to_be_bytes();
        Self([0xc2, a, b, c, d, e])
    }

    /// Adds `count` to the address. An error if no interface can have the result.
    pub fn offset(self, count: u32) -> Result<Self, BadMac> {
        let [a, b, c, d, e, f] = self.0;
        let sum = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) + u64::from(count);
        let [_, _, a, b, c, d, e, f] = sum.to_be_bytes();
        Self::new([a, b, c, d, e, f])
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(BadMac::Form)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|it| it.is_ascii_hexdigit()) {
                return Err(BadMac::Form);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac::Form)?;
        }
        if parts.next().is_some() { Err(BadMac::Form) } else { Self::new(bytes) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address with the length of its prefix: `10.0.1.1/24`.
///
/// Invariant: the prefix is at most 32 bits long for IPv4 and 128 for IPv6. Host bits may be set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

/// The text is not an address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    #[error("expected an address with a prefix length, such as `{addr}/{}`", if addr.is_ipv4() { 24 } else { 64 })]
    NoPrefix { addr: IpAddr },
    #[error("`{0}` is not an IP address")]
    Addr(String),
    #[error("expected a prefix length from 0 to {max} for {family}, found `{given}`")]
    Prefix { family: &'static str, max: u8, given: String },
}

/// An address that no interface but `lo` can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host address, found the {kind} address `{addr}`")]
pub struct NotOfHost {
    pub addr: IpAddr,
    /// `multicast` and the like.
    pub kind: &'static str,
}

/// A replica's address is outside of the first one's network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} + {count} is outside of {net}", first.addr)]
pub struct LeavesPrefix {
    pub first: Cidr,
    pub count: u32,
    pub net: Cidr,
}

impl Cidr {
    /// `addr` with a prefix length; None if the family has fewer bits.
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= max_prefix(addr)).then_some(Self { addr, prefix })
    }

    /// The address alone: `/32` or `/128`.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, prefix: max_prefix(addr) }
    }

    /// Every address of the same family: `0.0.0.0/0` or `::/0`.
    pub fn everything(like: IpAddr) -> Self {
        Self { addr: like, prefix: 0 }.net()
    }

    pub fn addr(self) -> IpAddr {
        self.addr
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The same, if an interface other than `lo` can have the address. `ipv6_add_addr()` in `net/ipv6/addrconf.c` refuses
    /// the others. For IPv4 the kernel ignores 0.0.0.0, routes no packet to or from the others, and has all of
    /// 127.0.0.0/8 on `lo` already. The first and the last address of a network are those of hosts in a /31.
    pub fn of_host(self) -> Result<Self, NotOfHost> {
        let kind = match self.addr {
            it if it.is_unspecified() => "unspecified",
            it if it.is_multicast() => "multicast",
            it if it.is_loopback() => "loopback",
            IpAddr::V4(Ipv4Addr::BROADCAST) => "broadcast",
            _ => return Ok(self),
        };
        Err(NotOfHost { addr: self.addr, kind })
    }

    /// The same with all host bits zero: the network that the address is in.
    pub fn net(self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(it) => IpAddr::V4(Ipv4Addr::from_bits(
                it.to_bits() & mask(u128::from(u32::MAX), 32, self.prefix) as u32,
            )),
            IpAddr::V6(it) => {
                IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & mask(u128::MAX, 128, self.prefix)))
            }
        };
        Self { addr, prefix: self.prefix }
    }

    pub fn contains(self, addr: IpAddr) -> bool {
        Self::new(addr, self.prefix).is_some_and(|it| it.net() == self.net())
            && addr.is_ipv4() == self.addr.is_ipv4()
    }

    /// Adds `count` to the address. An error if the result is outside of the network.
    pub fn offset(self, count: u32) -> Result<Self, LeavesPrefix> {
        let next = match self.addr {
            IpAddr::V4(it) => it.to_bits().checked_add(count).map(Ipv4Addr::from_bits).map(IpAddr::V4),
            IpAddr::V6(it) => {
                it.to_bits().checked_add(u128::from(count)).map(Ipv6Addr::from_bits).map(IpAddr::V6)
            }
        };
        match next {
            Some(addr) if self.contains(addr) => Ok(Self { addr, prefix: self.prefix }),
            _ => Err(LeavesPrefix { first: self, count, net: self.net() }),
        }
    }
}

fn max_prefix(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn mask(all: u128, bits: u8, prefix: u8) -> u128 {
    if prefix == 0 { 0 } else { (all << (bits - prefix)) & all }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
        let addr: IpAddr = addr.parse().map_err(|_| BadCidr::Addr(addr.to_owned()))?;
        let prefix = prefix.ok_or(BadCidr::NoPrefix { addr })?;
        let max = max_prefix(addr);
        let digits = !prefix.is_empty() && prefix.bytes().all(|it| it.is_ascii_digit());
        match prefix.parse::<u8>() {
            Ok(prefix) if digits && prefix <= max => Ok(Self { addr, prefix }),
            _ => Err(BadCidr::Prefix {
                family: if addr.is_ipv4() { "IPv4" } else { "IPv6" },
                max,
                given: prefix.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn interface_names_follow_the_kernels_rules() {
        for good in ["a", "eth0", "c1234567-eth0", "exactly15bytes_", "br@x", "ß"] {
            assert_eq!(good.parse::<IfName>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\tb", "a:b", "sixteen_bytes_ab"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_hold_no_pattern_control_character_or_byte_that_the_kernel_takes_for_a_space() {
        for (bad, expected) in [
            ("eth%d", "an interface name cannot hold '%'"),
            ("a\u{1b}b", "an interface name cannot hold '\\u{1b}'"),
            ("a\u{7f}", "an interface name cannot hold '\\u{7f}'"),
            ("a\u{85}", "an interface name cannot hold '\\u{85}'"),
            ("a\u{a0}b", "an interface name cannot hold '\\u{a0}'"),
            ("a\u{2003}", "an interface name cannot hold '\\u{2003}'"),
            // In UTF-8 the bytes c3 a0.
            (
                "voil\u{e0}",
                "an interface name cannot hold the byte 0xa0, as `voil\u{e0}` does: the kernel takes it for a space",
            ),
        ] {
            assert_eq!(bad.parse::<IfName>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn no_interface_is_made_with_a_name_that_the_kernel_has_a_use_for() {
        let to_make = |name: &str| name.parse::<IfName>().unwrap().to_make();
        assert_eq!(to_make("lo"), Err(BadIfName::Loopback));
        assert_eq!(to_make("all"), Err(BadIfName::Reserved("all".to_owned())));
        assert_eq!(to_make("default"), Err(BadIfName::Reserved("default".to_owned())));
        assert_eq!(to_make("lo0").unwrap().as_str(), "lo0");
    }

    #[test]
    fn mac_is_checked_and_counts_over_byte_borders() {
        let mac: Mac = "00:0a:0b:0c:0d:ff".parse().unwrap();
        assert_eq!(mac.offset(1).unwrap().to_string(), "00:0a:0b:0c:0e:00");
        assert_eq!("2:0:0:0:0:1".parse::<Mac>().unwrap().to_string(), "02:00:00:00:00:01");
        assert_eq!("00:ff:ff:ff:ff:ff".parse::<Mac>().unwrap().offset(1), Err(BadMac::Group));
        assert_eq!("01:00:5e:00:00:01".parse::<Mac>(), Err(BadMac::Group));
        assert_eq!("00:00:00:00:00:00".parse::<Mac>(), Err(BadMac::Zero));
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:0g", "02:00:00:00:00:+1"] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac::Form), "{bad:?}");
        }
    }

    #[test]
    fn stable_mac_depends_on_every_part_of_the_seed() {
        let one = Mac::stable(&["p", "h1", "eth0"]);
        assert_eq!(one, Mac::stable(&["p", "h1", "eth0"]));
        assert_eq!(one.bytes()[0], 0xc2);
        for other in [["q", "h1", "eth0"], ["p", "h2", "eth0"], ["p", "h1", "eth1"], ["ph", "1", "eth0"]] {
            assert_ne!(one, Mac::stable(&other));
        }
    }

    #[test]
    fn cidr_knows_its_network() {
        assert_eq!(cidr("10.1.2.3/8").net(), cidr("10.0.0.0/8"));
        assert_eq!(cidr("10.1.2.3/0").net(), cidr("0.0.0.0/0"));
        assert_eq!(cidr("fd00::5/64").net(), cidr("fd00::/64"));
        assert!(cidr("10.1.2.3/24").contains("10.1.2.9".parse().unwrap()));
        assert!(!cidr("10.1.2.3/24").contains("10.1.3.1".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
    }

    #[test]
    fn offset_stays_in_the_network() {
        assert_eq!(cidr("10.0.1.250/24").offset(5).unwrap(), cidr("10.0.1.255/24"));
        assert_eq!(
            cidr("10.0.1.250/24").offset(6).unwrap_err().to_string(),
            "10.0.1.250 + 6 is outside of 10.0.1.0/24"
        );
        assert!(cidr("255.255.255.255/0").offset(1).is_err());
        assert_eq!(cidr("fd00::ffff/64").offset(1).unwrap(), cidr("fd00::1:0/64"));
    }

    #[test]
    fn an_interface_has_the_address_of_a_host() {
        for (bad, kind) in [
            ("0.0.0.0/0", "unspecified"),
            ("::/0", "unspecified"),
            ("224.0.0.1/24", "multicast"),
            ("ff02::1/64", "multicast"),
            ("255.255.255.255/32", "broadcast"),
            ("127.0.0.2/8", "loopback"),
            ("::1/128", "loopback"),
        ] {
            assert_eq!(cidr(bad).of_host().unwrap_err().kind, kind, "{bad}");
        }
        for good in ["10.0.0.0/31", "10.0.0.255/24", "0.0.0.1/8", "240.0.0.1/4", "fe80::1/64", "fd00::/127"] {
            assert_eq!(cidr(good).of_host(), Ok(cidr(good)));
        }
    }

    #[test]
    fn cidr_errors_say_what_would_be_right() {
        for (text, expected) in [
            ("10.0.0.1", "expected an address with a prefix length, such as `10.0.0.1/24`"),
            ("fd00::1", "expected an address with a prefix length, such as `fd00::1/64`"),
            ("10.0.0.256/24", "`10.0.0.256` is not an IP address"),
            ("10.0.0.1/33", "expected a prefix length from 0 to 32 for IPv4, found `33`"),
            ("fd00::1/129", "expected a prefix length from 0 to 128 for IPv6, found `129`"),
            ("10.0.0.1/+4", "expected a prefix length from 0 to 32 for IPv4, found `+4`"),
            ("", "`` is not an IP address"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), expected);
        }
    }
}
