//! The command line: from words to a [`Call`].
//!
//! The grammar is pipework's. New are options in any place, several addresses, `--detach`, and `BRIDGE@PARENT`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};

use crate::addr::{Cidr, IfName, Mac};
use crate::tools::dhcp;
use crate::tools::pipework::mac;
use crate::tools::pipework::refusal::Refusal;

/// The text of a call without an address, on standard output. Scripts may compare it, so it has no new forms.
pub(super) const USAGE: &str = "\
Syntax:
pipework <hostinterface> [-i containerinterface] [-l localinterfacename] [-a addressfamily] <guest> <ipaddr>/<subnet>[@default_gateway] [macaddr][@vlan]
pipework <hostinterface> [-i containerinterface] [-l localinterfacename] <guest> dhcp [macaddr][@vlan]
pipework mac:<hostinterface_macaddress> [-i containerinterface] [-l localinterfacename] [-a addressfamily] <guest> <ipaddr>/<subnet>[@default_gateway] [macaddr][@vlan]
pipework mac:<hostinterface_macaddress> [-i containerinterface] [-l localinterfacename] <guest> dhcp [macaddr][@vlan]
pipework route <guest> <route_command>
pipework rule <guest> <rule_command>
pipework tc <guest> <tc_command>
pipework --wait [-i containerinterface]
";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Something is missing.
    Usage,
    /// By `-h` or `--help`.
    Help(&'static str),
    Attach(Box<Request>),
    /// Remove an interface of a guest that was attached.
    Detach {
        guest: String,
        dev: Option<IfName>,
    },
    /// Run a program of the machine in the network namespace of a guest.
    Pass {
        program: Program,
        guest: String,
        args: Vec<OsString>,
    },
    /// Wait for an interface in the namespace of the caller.
    Wait {
        dev: Option<IfName>,
    },
}

/// An interface to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: Host,
    /// Move the host interface itself.
    pub(super) direct_phys: bool,
    /// Its name in the guest.
    pub(super) dev: Option<IfName>,
    /// The name of the outer end of a veth.
    pub(super) local: Option<IfName>,
    pub(super) guest: String,
    address: String,
    family: Option<Family>,
    /// A MAC address, or `U:TEXT`; empty for none.
    mac: String,
    /// The text after `@`: a VLAN, or the partition key of an IPoIB interface.
    pub(super) tag: Option<String>,
}

impl Request {
    /// How the interface gets its addresses. Neither this nor the MAC address is checked before, because an unknown host
    /// interface is the error to report first: `tcx web qdisc show` is no mistake in an address.
    pub(super) fn addressing(&self) -> Result<Addressing, Refusal> {
        addressing(&self.address, self.family)
    }

    pub(super) fn has_mac(&self) -> bool {
        !self.mac.is_empty()
    }

    /// The MAC address that the interface gets.
    pub(super) fn mac(&self) -> Result<Option<Mac>, Refusal> {
        let mac = match self.mac.strip_prefix("U:") {
            _ if self.mac.is_empty() => return Ok(None),
            Some(text) => mac::of_text(text),
            None => self.mac.parse(),
        };
        mac.map(Some).map_err(|it| Refusal::new(format!("`{}`: {it}", self.mac)))
    }
}

/// The host interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, as given: without an interface of that name only its first letters may count.
    Name(String),
    /// The interface with this MAC address, which is None if the text is not one.
    Mac { text: String, mac: Option<Mac> },
    /// A bridge with a port that leads to another network.
    Uplink { bridge: IfName, parent: IfName },
}

/// How the interface gets its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// The gateways are default routes, at most one of each family. Without addresses (`0/0`) the interface is only set
    /// up.
    Static { addrs: Vec<Cidr>, gateways: Vec<IpAddr> },
    Dhcp {
        client: Client,
        options: Vec<String>,
        /// The client keeps running.
        keep: bool,
    },
}

/// A DHCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// `dhcp`: any.
    Any,
    Udhcpc,
    Dhcpcd,
    Dhclient,
}

impl Client {
    /// The client of the machine.
    pub(super) fn of_machine(self) -> dhcp::Client {
        match self {
            Self::Any => dhcp::Client::Any,
            Self::Udhcpc => dhcp::Client::Udhcpc,
            Self::Dhcpcd => dhcp::Client::Dhcpcd,
            Self::Dhclient => dhcp::Client::Dhclient,
        }
    }

    /// The program that was asked for by name.
    pub(super) fn program(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Udhcpc => Some("udhcpc"),
            Self::Dhcpcd => Some("dhcpcd"),
            Self::Dhclient => Some("dhclient"),
        }
    }
}

/// A program that is run in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Route,
    Rule,
    Tc,
}

impl Program {
    /// The program with the words that stand before the user's.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Route => &["ip", "route"],
            Self::Rule => &["ip", "rule"],
            Self::Tc => &["tc"],
        }
    }

    /// pipework also takes `routex` for `route`.
    fn named(word: &str) -> Option<Self> {
        match word {
            "route" => Some(Self::Route),
            "rule" => Some(Self::Rule),
            "tc" => Some(Self::Tc),
            _ => None,
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The name that `ip` has for it.
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "inet",
            Self::V6 => "inet6",
        }
    }
}

/// Words and options as they stand on the command line.
#[derive(Debug, Default)]
struct Given {
    words: Vec<String>,
    dev: Option<IfName>,
    local: Option<IfName>,
    family: Option<Family>,
    direct_phys: bool,
    detach: bool,
    wait: bool,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong; a missing word is [`Call::Usage`] instead.
pub(super) fn parse(args: &[OsString]) -> Result<Call, Refusal> {
    let mut given = Given::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if let [program, guest] = given.words.as_slice()
            && !given.detach
            && let Some(program) = Program::named(program)
        {
            let args = std::iter::once(arg).chain(rest).cloned().collect();
            return Ok(Call::Pass { program, guest: guest.clone(), args });
        }
        let arg = text(arg)?;
        match arg {
            "-h" => return Ok(Call::Help("-h")),
            "--help" => return Ok(Call::Help("--help")),
            "--direct-phys" => given.direct_phys = true,
            "--detach" => given.detach = true,
            "--wait" => given.wait = true,
            "-i" | "-l" | "-a" => {
                let Some(value) = rest.next() else { return Ok(Call::Usage) };
                let value = text(value)?;
                match arg {
                    "-i" => given.dev = name(arg, value)?,
                    "-l" => given.local = name(arg, value)?,
                    _ => given.family = Some(family(value)?),
                }
            }
            _ if arg.starts_with('-') => return Err(Refusal::new(format!("unknown option `{arg}`"))),
            _ => given.words.push(arg.to_owned()),
        }
    }
    let Given { words, dev, local, family, direct_phys, detach, wait } = given;
    if wait {
        return Ok(Call::Wait { dev });
    }
    let word = |at: usize| words.get(at).map(String::as_str).filter(|it| !it.is_empty());
    if detach {
        return Ok(word(0).map_or(Call::Usage, |guest| Call::Detach { guest: guest.to_owned(), dev }));
    }
    let Some([host, guest, address, ..]) = words.first_chunk::<3>() else { return Ok(Call::Usage) };
    if address.is_empty() || Program::named(host).is_some() {
        return Ok(Call::Usage);
    }
    let (mac, tag) = mac_and_tag(word(3).unwrap_or_default());
    Ok(Call::Attach(Box::new(Request {
        host: self::host(host)?,
        direct_phys,
        dev: to_make("-i", dev)?,
        local: to_make("-l", local)?,
        guest: guest.clone(),
        address: address.clone(),
        family,
        mac,
        tag,
    })))
}

fn text(arg: &OsString) -> Result<&str, Refusal> {
    arg.to_str().ok_or_else(|| Refusal::new(format!("`{}` is not UTF-8", arg.display())))
}

/// The name of an interface. Empty is the same as no option, as for a script's unset variable.
fn name(option: &str, value: &str) -> Result<Option<IfName>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|it| Refusal::new(format!("`{option} {value}`: {it}")))
}

/// The name of an interface that does not exist yet.
fn to_make(option: &str, name: Option<IfName>) -> Result<Option<IfName>, Refusal> {
    let name = name.map(IfName::to_make).transpose();
    name.map_err(|it| Refusal::new(format!("`{option}`: {it}")))
}

fn family(value: &str) -> Result<Family, Refusal> {
    match value {
        "4" | "inet" => Ok(Family::V4),
        "6" | "inet6" => Ok(Family::V6),
        _ => Err(Refusal::new(format!("expected the address family `4` or `6`, found `{value}`"))),
    }
}

fn host(word: &str) -> Result<Host, Refusal> {
    if let Some(text) = word.strip_prefix("mac:") {
        return Ok(Host::Mac { text: text.to_owned(), mac: text.parse().ok() });
    }
    let Some((bridge, parent)) = word.split_once('@') else { return Ok(Host::Name(word.to_owned())) };
    let name = |text: &str| text.parse().map_err(|it| Refusal::new(format!("`{word}`: {it}")));
    Ok(Host::Uplink { bridge: name(bridge)?, parent: name(parent)? })
}

/// `[MAC][@TAG]`; anything after another `@` is ignored.
fn mac_and_tag(word: &str) -> (String, Option<String>) {
    let mut parts = word.split('@').map(str::to_owned);
    let mac = parts.next().unwrap_or_default();
    (mac, parts.next().filter(|it| !it.is_empty()))
}

fn addressing(word: &str, family: Option<Family>) -> Result<Addressing, Refusal> {
    let (client, options) = word.split_once(':').unwrap_or((word, ""));
    let (client, keep) = match client.strip_suffix("-f") {
        // The others have no such form.
        Some(it @ ("udhcpc" | "dhclient")) => (it, true),
        _ => (client, false),
    };
    let client = match client {
        "dhcp" => Client::Any,
        "udhcpc" => Client::Udhcpc,
        "dhcpcd" => Client::Dhcpcd,
        "dhclient" => Client::Dhclient,
        _ => return addresses(word, family),
    };
    let options = options.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(Addressing::Dhcp { client, options, keep })
}

/// `ADDR/LEN[@GATEWAY][,…]`.
fn addresses(word: &str, family: Option<Family>) -> Result<Addressing, Refusal> {
    let (mut addrs, mut gateways) = (Vec::new(), Vec::new());
    for part in word.split(',') {
        let mut parts = part.split('@');
        let addr = parts.next().unwrap_or_default();
        if !addr.contains('/') {
            let length = if addr.contains(':') { 64 } else { 24 };
            return Err(Refusal::known(format!(
                "The IP address should include a netmask.\nMaybe you meant {part}/{length} ?"
            )));
        }
        addrs.extend(address(addr, family)?);
        // What follows another `@` is ignored.
        let Some(gateway) = parts.next().filter(|it| !it.is_empty()) else { continue };
        let wrong = |why: &str| Refusal::new(format!("gateway `{gateway}`: {why}"));
        let gateway: IpAddr = gateway.parse().map_err(|_| wrong("expected an IP address"))?;
        if family.is_some_and(|it| it != Family::of(gateway)) {
            return Err(wrong("it is not of the address family of `-a`"));
        }
        if gateways.iter().any(|it: &IpAddr| it.is_ipv4() == gateway.is_ipv4()) {
            return Err(wrong("there can be only one gateway of each address family"));
        }
        gateways.push(gateway);
    }
    let is_served = |gateway: &IpAddr| addrs.iter().any(|it| it.addr().is_ipv4() == gateway.is_ipv4());
    if let Some(gateway) = gateways.iter().find(|it| !addrs.is_empty() && !is_served(it)) {
        return Err(Refusal::new(format!("gateway `{gateway}`: no address is of its address family")));
    }
    Ok(Addressing::Static { addrs, gateways })
}

/// An address with a prefix length or a netmask. None for `0/0`: pipework adds 0.0.0.0, which the kernel ignores.
fn address(word: &str, family: Option<Family>) -> Result<Option<Cidr>, Refusal> {
    let (addr, length) = word.split_once('/').unwrap_or((word, ""));
    let addr = if addr == "0" { "0.0.0.0" } else { addr };
    let length = length.parse().map_or(length.to_owned(), |mask: Ipv4Addr| prefix_of(mask));
    let parsed = format!("{addr}/{length}").parse::<Cidr>().ok();
    let family = family.unwrap_or(if addr.contains(':') { Family::V6 } else { Family::V4 });
    let refused = || {
        // In the words of `ip`.
        let name = family.name();
        Refusal::known(format!("Error: {name} prefix is expected rather than \"{word}\"."))
    };
    let cidr = parsed.filter(|it| Family::of(it.addr()) == family).ok_or_else(refused)?;
    Ok((cidr.addr() != IpAddr::V4(Ipv4Addr::UNSPECIFIED)).then_some(cidr))
}

/// The prefix length of a netmask. Any other address stays as it is.
fn prefix_of(mask: Ipv4Addr) -> String {
    let bits = mask.to_bits();
    match bits.leading_ones() == bits.count_ones() {
        true => bits.count_ones().to_string(),
        false => mask.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words).map_err(|it| it.shown())
    }

    fn request(line: &str) -> Request {
        match call(line) {
            Ok(Call::Attach(it)) => *it,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn addressing(line: &str) -> Addressing {
        request(line).addressing().unwrap_or_else(|it| panic!("{line}: {}", it.shown()))
    }

    fn refused(line: &str) -> String {
        match call(line) {
            Ok(Call::Attach(it)) => it.mac().and(it.addressing()).expect_err(line).shown(),
            other => other.expect_err(line),
        }
    }

    fn fixed(addrs: &[&str], gateways: &[&str]) -> Addressing {
        Addressing::Static {
            addrs: addrs.iter().map(|it| it.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|it| it.parse().unwrap()).collect(),
        }
    }

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    #[test]
    fn every_recorded_form_of_an_attachment_is_read() {
        let plain = request("br1 cniph-a 192.168.1.1/24");
        assert_eq!(
            plain,
            Request {
                host: Host::Name("br1".to_owned()),
                direct_phys: false,
                dev: None,
                local: None,
                guest: "cniph-a".to_owned(),
                address: "192.168.1.1/24".to_owned(),
                family: None,
                mac: String::new(),
                tag: None,
            }
        );
        assert_eq!(request("br1 -i eth2 c 192.168.2.1/24").dev, Some(name("eth2")));
        assert_eq!(request("br1 -l hostapp1 c 192.168.1.2/24").local, Some(name("hostapp1")));
        for (word, expected) in [
            ("192.168.1.1/24", fixed(&["192.168.1.1/24"], &[])),
            ("192.168.4.25/20@192.168.4.1", fixed(&["192.168.4.25/20"], &["192.168.4.1"])),
            ("192.168.4.26/32@10.0.0.1", fixed(&["192.168.4.26/32"], &["10.0.0.1"])),
            ("0/0", fixed(&[], &[])),
            ("10.6.0.2/24@10.6.0.1@junk", fixed(&["10.6.0.2/24"], &["10.6.0.1"])),
        ] {
            assert_eq!(addressing(&format!("br1 c {word}")), expected, "{word}");
        }
        let with_mac = |word: &str| {
            let it = request(&format!("br1 c 10.0.0.1/24 {word}"));
            (it.mac().unwrap().map(|it| it.to_string()), it.tag)
        };
        let mac = |it: &str| Some(it.to_owned());
        let tag = mac;
        assert_eq!(with_mac("26:2e:71:98:60:8f"), (mac("26:2e:71:98:60:8f"), None));
        assert_eq!(with_mac("U:myhost.foo.com"), (mac("02:72:6c:cd:9b:8d"), None));
        assert_eq!(with_mac("@10"), (None, tag("10")));
        assert_eq!(with_mac("02:00:00:00:00:99@42"), (mac("02:00:00:00:00:99"), tag("42")));
        assert_eq!(with_mac("U:b@7@junk"), (mac("02:3b:5d:5c:37:12"), tag("7")));
        assert_eq!(with_mac("@"), (None, None));
        let moved = request("--direct-phys ph1 -i container0 c 10.3.0.2/24");
        assert!(moved.direct_phys);
        assert_eq!((moved.host, moved.dev), (Host::Name("ph1".to_owned()), Some(name("container0"))));
        let by_mac = |text: &str, mac: Option<&str>| Host::Mac {
            text: text.to_owned(),
            mac: mac.map(|it| it.parse().unwrap()),
        };
        let mac = "5e:9d:1e:eb:56:a0";
        assert_eq!(request(&format!("mac:{mac} c 10.2.0.3/24")).host, by_mac(mac, Some(mac)));
        let upper = "5E:9D:1E:EB:56:A0";
        assert_eq!(request(&format!("mac:{upper} c 10.2.0.3/24")).host, by_mac(upper, Some(mac)));
        assert_eq!(request("mac:frob c 10.2.0.3/24").host, by_mac("frob", None));
    }

    #[test]
    fn every_recorded_form_of_dhcp_is_read() {
        for (word, client, options, keep) in [
            ("dhcp", Client::Any, &[] as &[&str], false),
            ("dhcp:-R", Client::Any, &["-R"], false),
            ("udhcpc", Client::Udhcpc, &[], false),
            ("udhcpc-f", Client::Udhcpc, &[], true),
            ("udhcpc-f:-O  ntpsrv\t-R", Client::Udhcpc, &["-O", "ntpsrv", "-R"], true),
            ("dhcpcd", Client::Dhcpcd, &[], false),
            ("dhclient", Client::Dhclient, &[], false),
            ("dhclient-f:-v", Client::Dhclient, &["-v"], true),
        ] {
            let args = ["br1", "c", word, "U:x"].map(OsString::from);
            let Ok(Call::Attach(found)) = parse(&args) else { panic!("{word}") };
            let options = options.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(found.addressing(), Ok(Addressing::Dhcp { client, options, keep }), "{word}");
        }
        // pipework has no client of that name either.
        assert!(refused("br1 c dhcpcd-f").ends_with("Maybe you meant dhcpcd-f/24 ?"));
    }

    #[test]
    fn a_missing_word_is_answered_with_the_usage() {
        for line in [
            "",
            "br1",
            "br1 c",
            "br1 -i eth2 c",
            "br1 -i",
            "br1 c 10.0.0.1/24 -l",
            "route",
            "route c",
            "tc c",
            "--direct-phys ph1 c",
            "--detach",
            "--detach -i eth1",
        ] {
            assert_eq!(call(line), Ok(Call::Usage), "{line}");
        }
        // A script's unset variable in quotes.
        assert_eq!(parse(&["br1", "c", ""].map(OsString::from)), Ok(Call::Usage));
        assert_eq!(call("--help"), Ok(Call::Help("--help")));
    }

    #[test]
    fn programs_are_named_exactly_and_get_their_words_as_they_are() {
        let pass = |program, args: &[&str]| {
            let args = args.iter().map(OsString::from).collect();
            Ok(Call::Pass { program, guest: "c".to_owned(), args })
        };
        assert_eq!(
            call("route c add 10.0.5.0/24 via 192.168.1.1"),
            pass(Program::Route, &["add", "10.0.5.0/24", "via", "192.168.1.1"])
        );
        assert_eq!(
            call("rule c add from 172.19.0.2/32 table 1"),
            pass(Program::Rule, &["add", "from", "172.19.0.2/32", "table", "1"])
        );
        assert_eq!(call("tc -i eth1 c -s qdisc -i"), pass(Program::Tc, &["-s", "qdisc", "-i"]));
        // Q17: pipework takes these for the programs.
        for word in ["routex", "ruleset", "tcfoo"] {
            assert_eq!(request(&format!("{word} c show")).host, Host::Name(word.to_owned()), "{word}");
        }
    }

    #[test]
    fn options_may_stand_anywhere() {
        let expected = request("--direct-phys ph1 -i eth2 -l out2 -a 4 c 10.0.0.1/24 02:00:00:00:00:01@5");
        for line in [
            "ph1 -a 4 -l out2 -i eth2 --direct-phys c 10.0.0.1/24 02:00:00:00:00:01@5",
            "ph1 c 10.0.0.1/24 02:00:00:00:00:01@5 -l out2 -i eth2 --direct-phys -a 4",
            "-i eth2 -l out2 ph1 c --direct-phys 10.0.0.1/24 -a inet 02:00:00:00:00:01@5",
            // pipework ignores further words.
            "--direct-phys ph1 -i eth2 -l out2 -a 4 c 10.0.0.1/24 02:00:00:00:00:01@5 more",
        ] {
            assert_eq!(request(line), expected, "{line}");
        }
        let empty = ["br1", "-i", "", "c", "10.0.0.1/24", ""].map(OsString::from);
        assert_eq!(parse(&empty).unwrap(), call("br1 c 10.0.0.1/24").unwrap());
    }

    #[test]
    fn wait_and_detach_take_the_name_of_an_interface() {
        assert_eq!(call("--wait"), Ok(Call::Wait { dev: None }));
        assert_eq!(call("--wait -i eth2"), Ok(Call::Wait { dev: Some(name("eth2")) }));
        assert_eq!(call("--wait -i lo"), Ok(Call::Wait { dev: Some(name("lo")) }));
        let detach = |dev| Ok(Call::Detach { guest: "c".to_owned(), dev });
        assert_eq!(call("--detach c"), detach(None));
        assert_eq!(call("--detach -i eth2 c"), detach(Some(name("eth2"))));
        assert_eq!(call("--detach c -i eth2"), detach(Some(name("eth2"))));
    }

    #[test]
    fn the_family_is_that_of_the_address_and_may_be_given() {
        // Q1 to Q3: without `-a`, and with the names that the comments of pipework promise.
        for line in ["-a 6", "-a inet6", ""] {
            assert_eq!(
                addressing(&format!("br1 {line} c fd00::5/64@fd00::1")),
                fixed(&["fd00::5/64"], &["fd00::1"]),
                "{line}"
            );
        }
        assert_eq!(
            refused("br1 -a 6 c 10.0.0.1/24"),
            "err: Error: inet6 prefix is expected rather than \"10.0.0.1/24\"."
        );
        assert_eq!(
            refused("br1 -a 4 c fd00::6/64"),
            "err: Error: inet prefix is expected rather than \"fd00::6/64\"."
        );
        assert_eq!(
            refused("br1 -a 4 c 10.0.0.1/24@fd00::1"),
            "err: error: gateway `fd00::1`: it is not of the address family of `-a`"
        );
        assert_eq!(
            refused("br1 -a link c 10.0.0.1/24"),
            "err: error: expected the address family `4` or `6`, found `link`"
        );
    }

    #[test]
    fn several_addresses_are_separated_by_commas() {
        assert_eq!(
            addressing("br1 c 10.0.0.2/24,10.0.1.2/24@10.0.0.1"),
            fixed(&["10.0.0.2/24", "10.0.1.2/24"], &["10.0.0.1"])
        );
        assert_eq!(
            addressing("br1 c 10.0.0.2/24@10.0.0.1,fd00::2/64@fd00::1"),
            fixed(&["10.0.0.2/24", "fd00::2/64"], &["10.0.0.1", "fd00::1"])
        );
        assert_eq!(
            refused("br1 c 10.0.0.2/24@10.0.0.1,10.0.1.2/24@10.0.1.1"),
            "err: error: gateway `10.0.1.1`: there can be only one gateway of each address family"
        );
        assert_eq!(
            refused("br1 c 10.0.0.2/24@fd00::1"),
            "err: error: gateway `fd00::1`: no address is of its address family"
        );
        // As in pipework, `0/0` may have a gateway.
        assert_eq!(addressing("br1 c 0/0@10.0.0.1"), fixed(&[], &["10.0.0.1"]));
    }

    #[test]
    fn an_address_needs_a_prefix_length_or_a_netmask() {
        assert_eq!(
            refused("br1 c 192.168.1.7"),
            "err: The IP address should include a netmask.\nMaybe you meant 192.168.1.7/24 ?"
        );
        assert_eq!(
            refused("br1 c 192.168.1.7@192.168.1.1"),
            "err: The IP address should include a netmask.\nMaybe you meant 192.168.1.7@192.168.1.1/24 ?"
        );
        assert!(refused("br1 c fd00::1").ends_with("Maybe you meant fd00::1/64 ?"));
        assert_eq!(
            refused("br1 c 300.1.1.1/24"),
            "err: Error: inet prefix is expected rather than \"300.1.1.1/24\"."
        );
        assert_eq!(addressing("br1 c 10.0.0.1/255.255.240.0"), addressing("br1 c 10.0.0.1/20"));
        for word in ["10.0.0.1/33", "10.0.0.1/", "10.0.0.1/255.0.255.0", "/24", "10.0.0.1/24/24"] {
            assert_eq!(
                refused(&format!("br1 c {word}")),
                format!("err: Error: inet prefix is expected rather than \"{word}\".")
            );
        }
        assert_eq!(refused("br1 c 10.0.0.1/24@frob"), "err: error: gateway `frob`: expected an IP address");
    }

    #[test]
    fn a_bridge_may_have_an_uplink() {
        let uplink = Host::Uplink { bridge: name("br63"), parent: name("bond0") };
        assert_eq!(request("br63@bond0 -i eth0 c 1.2.3.4/24@1.2.3.1 @63").host, uplink);
        assert_eq!(refused("br63@ c 1.2.3.4/24"), "err: error: `br63@`: an interface name cannot be empty");
    }

    #[test]
    fn what_no_form_has_is_refused() {
        assert_eq!(refused("br1 -x c 10.0.0.1/24"), "err: error: unknown option `-x`");
        assert_eq!(
            refused("br1 -i abcdefghijklmnop c 10.0.0.1/24"),
            "err: error: `-i abcdefghijklmnop`: an interface name is at most 15 bytes, this has 16"
        );
        assert_eq!(
            refused("br1 -l lo c 10.0.0.1/24"),
            "err: error: `-l`: `lo` is the loopback interface of every network namespace"
        );
        assert_eq!(
            refused("br1 c 10.0.0.1/24 frob"),
            "err: error: `frob`: expected a MAC address, such as `02:00:00:00:00:01`"
        );
        use std::os::unix::ffi::OsStringExt;
        let odd = [OsString::from_vec(vec![b'b', 0xff])];
        assert_eq!(parse(&odd).unwrap_err().shown(), "err: error: `b\u{fffd}` is not UTF-8");
    }
}
