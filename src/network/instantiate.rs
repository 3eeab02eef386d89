//! The links of one container, fully specified.

use std::collections::BTreeSet;

use crate::addr::{BadIfName, Cidr, IfName, Mac};
use crate::config::{Base, Diagnostic, Forward, LinkConfig, LinkType, Node, Severity, Span, Value, Vars};
use crate::container::Container;
use crate::device::{IpvlanMode, MacvlanMode, StackedKind};
use crate::ethtool::{Ethtool, Feature};
use crate::network::resolve::{bridge_name, check_link, check_outer};
use crate::network::{
    Attach, BridgeMode, Command, Item, Link, LinkId, LinkKind, LinkRule, Network, Place, Port, Stacked,
    Target, forward_gateway,
};
use crate::route::Route;

/// The links and commands that a configuration has for one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub links: Vec<Link>,
    pub commands: Vec<Command>,
    pub problems: Vec<BadInstance>,
}

impl Instance {
    /// Is the container left as it is?
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.commands.is_empty() && self.problems.is_empty()
    }
}

/// A link that is not possible for this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInstance {
    pub id: LinkId,
    pub message: String,
    pub origin: String,
}

/// Why a link is not possible, and the place of the item at fault.
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) span: Option<Span>,
}

impl From<String> for Bad {
    fn from(message: String) -> Self {
        Self { message, span: None }
    }
}

/// The parts of a replica's names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    container: String,
    service: String,
    project: String,
    /// From 1.
    index: u32,
    /// The container's id.
    id: String,
}

impl Names {
    /// Those of the first replica, with examples for what only a container tells.
    pub(super) fn sample(target: &Target) -> Self {
        let (container, service) = match target {
            Target::Service(name) => (format!("{name}-1"), name.clone()),
            Target::Container(name) => (name.clone(), String::new()),
        };
        Self { container, service, project: "project".to_owned(), index: 1, id: "0".repeat(64) }
    }

    /// Those of a replica that does not run yet.
    pub(super) fn replica(target: &Target, index: u32, project: &str) -> Self {
        let mut names = Self::sample(target);
        if let Target::Service(service) = target {
            names.container = format!("{service}-{index}");
        }
        if !project.is_empty() {
            project.clone_into(&mut names.project);
        }
        Self { index, ..names }
    }

    fn of(container: &Container) -> Self {
        Self {
            container: container.name.clone(),
            service: container.service.clone().unwrap_or_default(),
            project: container.project.clone().unwrap_or_default(),
            index: container.index.max(1),
            id: container.id.as_str().to_owned(),
        }
    }

    fn vars(&self) -> Vars {
        Vars::from([
            ("index", self.index.to_string()),
            ("service", self.service.clone()),
            ("project", self.project.clone()),
            ("container", self.container.clone()),
        ])
    }
}

impl Network {
    /// The links and commands of this container.
    pub fn instantiate(&self, container: &Container) -> Instance {
        let names = Names::of(container);
        let mut instance = Instance::default();
        for rule in self.links.iter().filter(|it| it.target.is(container)) {
            match self.replica(rule, &names) {
                Ok(it) => instance.links.push(it),
                Err(Bad { message, span }) => instance.problems.push(BadInstance {
                    id: LinkId { container: container.name.clone(), dev: rule.sample.id.dev.clone() },
                    message,
                    origin: span.map_or_else(|| rule.origin.clone(), |it| self.sources.place(it)),
                }),
            }
        }
        // One way back is enough for two links on one bridge.
        let mut ways_back = BTreeSet::new();
        for link in instance.links.iter_mut().filter(|it| !it.forwards.is_empty()) {
            let bridge = match &link.kind {
                LinkKind::Veth { attach: Attach::Bridge(it) | Attach::Ovs(it), .. } => it.to_string(),
                _ => continue,
            };
            for v4 in [true, false] {
                let way = Route::to_host(forward_gateway(&bridge, v4), link.id.dev.clone());
                if link.routes.contains(&way) && !ways_back.insert((bridge.clone(), v4)) {
                    link.routes.retain(|it| *it != way);
                }
            }
        }
        let commands = self.commands.iter().filter(|it| it.target.is(container));
        instance.commands = commands.map(|it| it.command.filled(&names.vars())).collect();
        instance
    }

    /// The link of an entry for one replica. An entry with placeholders is read and checked again for each replica.
    pub(super) fn replica(&self, rule: &LinkRule, names: &Names) -> Result<Link, Bad> {
        if let Some(Diagnostic { message, span, .. }) = rule.fault.clone() {
            return Err(Bad { message, span });
        }
        if !rule.config.templated {
            return self.link(&rule.config, names, &rule.target);
        }
        let (config, mut found) = LinkConfig::read(&rule.config.node, &self.sources, &names.vars());
        if !found.iter().any(|it| it.severity == Severity::Error) {
            found = check_link(self, &config);
            found.extend(check_outer(self, &config));
        }
        let replica =
            |message: &str, span| Bad { message: format!("replica {}: {message}", names.index), span };
        if let Some(it) = found.iter().find(|it| it.severity == Severity::Error) {
            return Err(replica(&it.message, it.span));
        }
        let link = self.link(&config, names, &rule.target)?;
        // Values without a placeholder have only counted up by now.
        let mut addrs = BTreeSet::new();
        if let Some((it, ip)) = link.addrs.iter().zip(&config.ip).find(|(it, _)| !addrs.insert(**it)) {
            return Err(replica(&format!("address {it} is given twice"), Some(ip.span)));
        }
        let mut ports = BTreeSet::new();
        let mut forwards = link.forwards.iter().zip(&config.forward);
        if let Some((it, forward)) = forwards.find(|(it, _)| !ports.insert((it.outer, it.protocol))) {
            let message = format!("port {}/{} is forwarded twice", it.outer, it.protocol);
            return Err(replica(&message, Some(forward.span)));
        }
        Ok(link)
    }

    /// Does some entry name this container in full?
    pub fn names_container(&self, name: &str) -> bool {
        let targets = self.links.iter().map(|it| &it.target).chain(self.commands.iter().map(|it| &it.target));
        targets.into_iter().any(|it| matches!(it, Target::Container(it) if it == name))
    }

    /// The namespaces outside of containers that may have our interfaces.
    pub fn places(&self) -> BTreeSet<Place> {
        self.links.iter().filter_map(|it| it.sample.kind.place()).chain([Place::Engine]).collect()
    }

    /// Can the network do without the host: its interfaces and, for tunnels, its routes?
    pub fn stays_inside(&self) -> bool {
        self.tunnels.is_empty()
            && !self.places().contains(&Place::Host)
            && self.bridges.values().all(|it| it.place == Place::Engine)
    }

    /// The link of a checked entry for one replica. Addresses and ports without placeholders count up with the replica.
    ///
    /// # Errors
    ///
    /// A value that this replica cannot have, such as an address outside of the prefix.
    pub(super) fn link(&self, config: &LinkConfig, names: &Names, target: &Target) -> Result<Link, Bad> {
        let replica = |it: &dyn std::fmt::Display, span| Bad {
            message: format!("replica {}: {it}", names.index),
            span: Some(span),
        };
        let offset = names.index - 1;
        let dev = match &config.dev {
            Some(it) => it.value.clone(),
            None => "eth0".parse().map_err(|it: BadIfName| it.to_string())?,
        };
        let kind = config.kind.as_ref().map_or(LinkType::Veth, |it| it.value);
        let has_mac = !matches!(kind, LinkType::Ipvlan | LinkType::Ipvtap);
        let mac = match &config.mac {
            Some(it) if has_placeholder(config, "mac", 0) => it.value,
            Some(it) => it.value.offset(offset).map_err(|err| replica(&err, it.span))?,
            None => stable_mac(&self.defaults.project, names, target, &dev),
        };
        let is_virtual = matches!(kind, LinkType::Veth | LinkType::Dummy);
        let mtu = config.mtu.as_ref().map(|it| it.value).or(is_virtual.then_some(self.defaults.mtu));
        let addrs = config.ip.iter().enumerate().map(|(at, it)| match has_placeholder(config, "ip", at) {
            true => Ok(it.value),
            false => {
                let counted = it.value.offset(offset).map_err(|err| replica(&err, it.span))?;
                counted.of_host().map_err(|err| replica(&err, it.span))
            }
        });
        let mut ethtool: Vec<Ethtool> = config.ethtool.iter().map(|it| it.value.clone()).collect();
        if kind == LinkType::Veth && !self.defaults.keep_veth_offload {
            ethtool.insert(0, Ethtool::Features(vec![(Feature::TX, false)]));
        }
        let forwards = config.forward.iter().enumerate().map(|(at, it)| {
            if has_placeholder(config, "forward", at) {
                return Ok(it.value);
            }
            let outer = u64::from(it.value.outer) + u64::from(offset);
            let outer = u16::try_from(outer)
                .map_err(|_| replica(&format!("port {outer} is above 65535"), it.span))?;
            Ok(Forward { outer, ..it.value })
        });
        let forwards = forwards.collect::<Result<Vec<_>, Bad>>()?;
        let addrs = addrs.collect::<Result<Vec<_>, Bad>>()?;
        let kind = self.kind(config, kind, names, target, &dev)?;
        let mut routes: Vec<Route> =
            config.route.iter().map(|it| it.value.clone().with_default_dev(&dev)).collect();
        if let LinkKind::Veth { attach: Attach::Bridge(bridge) | Attach::Ovs(bridge), .. } = &kind
            && !forwards.is_empty()
        {
            for v4 in [true, false] {
                if addrs.iter().any(|it| it.addr().is_ipv4() == v4) {
                    routes.push(Route::to_host(forward_gateway(bridge.as_str(), v4), dev.clone()));
                }
            }
        }
        let items = self.items(config, &addrs, &forwards, &dev);
        Ok(Link {
            items,
            kind,
            carrier: true,
            mac: has_mac.then_some(mac),
            mtu,
            addrs,
            routes,
            ethtool,
            netem: config.netem.as_ref().map(|it| it.value.clone()),
            netem_in: config.netem_in.as_ref().map(|it| it.value.clone()),
            required: config.required,
            repair: config.repair,
            nat: config.nat.as_ref().map(|it| it.value),
            forwards,
            port: Port::default(),
            origin: self.sources.place(config.node.span),
            id: LinkId { container: names.container.clone(), dev },
        })
    }

    /// The places of an entry's items. Addresses and ports are those of the replica.
    fn items(
        &self,
        config: &LinkConfig,
        addrs: &[Cidr],
        forwards: &[Forward],
        dev: &IfName,
    ) -> Vec<(Item, String)> {
        let addrs = addrs.iter().zip(&config.ip).map(|(addr, it)| (Item::Addr(*addr), it.span));
        let forwards =
            forwards.iter().zip(&config.forward).map(|(forward, it)| (Item::Forward(*forward), it.span));
        let routes = config.route.iter();
        let routes = routes.map(|it| (Item::Route(it.value.clone().with_default_dev(dev)), it.span));
        let ethtool = config.ethtool.iter().map(|it| (Item::Ethtool(it.value.clone()), it.span));
        let single = [
            (Item::Bridge, config.bridge.as_ref().map(|it| it.span)),
            (Item::OuterDev, config.outer_dev.as_ref().map(|it| it.span)),
            (Item::Mac, config.mac.as_ref().map(|it| it.span)),
            (Item::Mtu, config.mtu.as_ref().map(|it| it.span)),
            (Item::Nat, config.nat.as_ref().map(|it| it.span)),
            (Item::Netem, config.netem.as_ref().map(|it| it.span)),
            (Item::NetemIn, config.netem_in.as_ref().map(|it| it.span)),
        ];
        let single = single.into_iter().filter_map(|(item, span)| Some((item, span?)));
        let all = addrs.chain(forwards).chain(routes).chain(ethtool).chain(single);
        all.map(|(item, span)| (item, self.sources.place(span))).collect()
    }

    fn kind(
        &self,
        config: &LinkConfig,
        kind: LinkType,
        names: &Names,
        target: &Target,
        dev: &IfName,
    ) -> Result<LinkKind, String> {
        let place = match config.base.as_ref().map(|it| it.value) {
            Some(Base::Host) => Place::Host,
            Some(Base::Conlink | Base::Local) => Place::Engine,
            None if kind == LinkType::Veth => Place::Engine,
            None => Place::Host,
        };
        let parent = || config.outer_dev.as_ref().map(|it| it.value.clone()).ok_or("`outer-dev` is missing");
        let mode = config.mode.as_ref().map(|it| it.value.as_str());
        let macvlan = MacvlanMode::NAMES.iter().find(|(name, _)| Some(*name) == mode).map(|(_, it)| *it);
        let ipvlan = IpvlanMode::NAMES.iter().find(|(name, _)| Some(*name) == mode).map(|(_, it)| *it);
        let flag = config.flag.as_ref().map(|it| it.value);
        let stacked = |kind| Ok::<_, String>(LinkKind::Stacked(Stacked { place, parent: parent()?, kind }));
        Ok(match kind {
            LinkType::Veth => {
                let outer = match &config.outer_dev {
                    Some(it) => it.value.clone(),
                    None => {
                        let name = outer_name(names, target, dev);
                        let owner = match target {
                            Target::Service(it) => format!("service `{it}`"),
                            Target::Container(it) => format!("container `{it}`"),
                        };
                        name.parse().map_err(|it| {
                            format!("{owner} gives the outer interface the name `{name}`: {it}")
                        })?
                    }
                };
                let name = config.bridge.as_ref().map(|it| it.value.as_str()).ok_or("`bridge` is missing")?;
                // A placeholder may name a bridge that is nowhere described.
                let mode = match self.bridges.get(name) {
                    Some(it) => it.mode,
                    None => self.defaults.mode(None, place, false),
                };
                let attach = match mode {
                    BridgeMode::Patch => Attach::Patch(name.to_owned()),
                    BridgeMode::Linux => Attach::Bridge(bridge_name(name)?),
                    BridgeMode::Ovs => Attach::Ovs(bridge_name(name)?),
                };
                LinkKind::Veth { place, outer, attach }
            }
            LinkType::Dummy => LinkKind::Dummy,
            LinkType::Vlan => {
                let id = config.vlanid.as_ref().map(|it| it.value).ok_or("`vlanid` is missing")?;
                stacked(StackedKind::Vlan { id })?
            }
            LinkType::Macvlan => stacked(StackedKind::Macvlan { mode: macvlan })?,
            LinkType::Macvtap => stacked(StackedKind::Macvtap { mode: macvlan })?,
            LinkType::Ipvlan => stacked(StackedKind::Ipvlan { mode: ipvlan, flag })?,
            LinkType::Ipvtap => stacked(StackedKind::Ipvtap { mode: ipvlan, flag })?,
        })
    }
}

/// Does the value of `key`, or item `at` of its list, contain a `{{placeholder}}`?
pub(super) fn has_placeholder(config: &LinkConfig, key: &str, at: usize) -> bool {
    let value = match config.node.get(key) {
        Some(Node { value: Value::List(items), .. }) => items.get(at),
        value => value,
    };
    matches!(value.map(|it| &it.value), Some(Value::Text(text)) if text.contains("{{"))
}

/// Does the text of `key` contain a placeholder with another value for each replica of a service?
pub(super) fn differs_by_replica(config: &LinkConfig, key: &str) -> bool {
    let text = match config.node.get(key).map(|it| &it.value) {
        Some(Value::Text(it)) => it.as_str(),
        _ => return false,
    };
    let names = text.split("{{").skip(1).filter_map(|it| it.split_once("}}"));
    names.into_iter().any(|(name, _)| matches!(name.trim(), "index" | "container"))
}

impl Command {
    /// The command with its placeholders replaced.
    fn filled(&self, vars: &Vars) -> Self {
        let fill = |text: &String| {
            vars.iter()
                .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
        };
        Self { argv: self.argv.iter().map(fill).collect(), origin: self.origin.clone() }
    }
}

impl Target {
    fn is(&self, container: &Container) -> bool {
        match self {
            Self::Service(name) => container.service.as_ref() == Some(name),
            Self::Container(name) => container.name == *name,
        }
    }
}

/// The same for a replica at each start: by service and index where there is one, for an engine may name the
/// container in more than one way (`p-s-1`, `p_s_1`).
fn stable_mac(project: &str, names: &Names, target: &Target, dev: &IfName) -> Mac {
    match target {
        Target::Service(service) => Mac::stable(&[project, service, &names.index.to_string(), dev.as_str()]),
        Target::Container(name) => Mac::stable(&[project, name, dev.as_str()]),
    }
}

/// Eight letters that tell a container from others: the first of its id, where an engine drew that, else of a hash.
fn eight(id: &str) -> String {
    let is_drawn = id.len() == 64 && id.bytes().all(|it| it.is_ascii_hexdigit());
    if is_drawn { first(id, 8).to_owned() } else { hex(id, 8) }
}

/// The first bytes of a text, at most so many, as far as they are whole characters.
fn first(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|it| text.is_char_boundary(*it));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// The last hexadecimal digits of a hash of the text; at most ten.
fn hex(text: &str, digits: usize) -> String {
    let [_, bytes @ ..] = Mac::stable(&[text]).bytes();
    let all: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    all.get(all.len() - digits..).unwrap_or(&all).to_owned()
}

/// `<service>_<index>-<dev>` or `<container>-<dev>`; too long, `c<8 of the id>-<dev>`, of a `dev` longer than 5 bytes 2
/// and 3 digits of a hash.
fn outer_name(names: &Names, target: &Target, dev: &IfName) -> String {
    let name = match target {
        Target::Service(service) => format!("{service}_{}-{dev}", names.index),
        Target::Container(container) => format!("{container}-{dev}"),
    };
    if name.len() <= IfName::MAX {
        return name;
    }
    let mut short = format!("c{}-", eight(&names.id));
    let dev = dev.as_str();
    // Two names that begin alike are told apart by letters of a hash.
    let dev = if dev.len() <= 5 { dev.to_owned() } else { format!("{}{}", first(dev, 2), hex(dev, 3)) };
    for it in dev.chars() {
        if short.len() + it.len_utf8() <= IfName::MAX {
            short.push(it);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::{Input, Scope, Sources, load};
    use crate::container::ContainerId;
    use crate::network::{Defaults, resolve};

    /// The network of a file, which has no mistakes but those of single links.
    fn network(text: &str) -> Network {
        let mut sources = Sources::default();
        let file = sources.add("net.yaml", text);
        let (config, mut found) = load(&sources, &[Input::Network(file)], &BTreeMap::new());
        let (network, more) = resolve(config, Arc::new(sources), Defaults::default());
        found.extend(more);
        found.retain(|it| it.stops(Scope::Network));
        assert_eq!(found, []);
        network
    }

    /// A replica of service `a`.
    fn instance(links: &str, index: u32) -> Instance {
        network(links).instantiate(&Container {
            id: ContainerId::new("7"),
            name: format!("p-a-{index}"),
            project: None,
            working_dir: None,
            service: Some("a".to_owned()),
            index,
        })
    }

    /// The addresses of a replica of service `a`, or why it cannot have its links.
    fn replica(links: &str, index: u32) -> Vec<String> {
        let instance = instance(links, index);
        let addrs = |it: &Link| it.addrs.iter().map(|it| format!("{} {it}", index)).collect::<Vec<_>>();
        let links = instance.links.iter().flat_map(addrs);
        links.chain(instance.problems.iter().map(|it| it.message.clone())).collect()
    }

    #[test]
    fn a_link_that_the_kernel_would_refuse_fails_alone() {
        for (bad, expected) in [
            (
                "type: ipvlan, outer-dev: up0, mac: '02:00:00:00:00:01'",
                "an ipvlan has the MAC address of its parent",
            ),
            ("type: ipvtap, outer-dev: up0, mode: bridge", "unknown mode `bridge` of an ipvtap"),
            ("bridge: lan, nat: 10.0.0.9", "`nat` needs an address to translate to"),
            ("bridge: lan, netem: delay 1xs", "`delay` cannot be `1xs`"),
            ("bridge: lan, route: default vai 10.0.0.1", "unknown word `vai`"),
        ] {
            let text = format!(
                "links: [{{service: a, {bad}}}, {{service: a, dev: eth1, bridge: lan, ip: 10.0.0.1/24}}]"
            );
            assert_eq!(replica(&text, 1), ["1 10.0.0.1/24", expected], "{bad}");
        }
    }

    #[test]
    fn properties_of_other_types_change_nothing() {
        let kinds = |links: &str| -> Vec<LinkKind> {
            instance(links, 1).links.into_iter().map(|it| it.kind).collect()
        };
        for (given, meant) in [
            ("bridge: lan, mode: bridge, vlanid: 7, flag: vepa", "bridge: lan"),
            ("type: dummy, bridge: lan, outer-dev: x0, mode: l2, vlanid: 7", "type: dummy"),
            ("type: ipvlan, outer-dev: up0, bridge: lan, vlanid: 7", "type: ipvlan, outer-dev: up0"),
            (
                "type: vlan, outer-dev: up0, vlanid: 7, bridge: lan, mode: l2",
                "type: vlan, outer-dev: up0, vlanid: 7",
            ),
        ] {
            let link = |it: &str| kinds(&format!("links: [{{service: a, {it}}}]"));
            assert_eq!(link(given), link(meant), "{given}");
            assert_eq!(link(given).len(), 1);
        }
    }

    #[test]
    fn what_placeholders_make_of_an_entry_is_checked_for_each_replica() {
        let same = "links: [{service: a, bridge: lan, ip: ['10.0.0.{{index}}0/24', 10.0.0.19/24]}]";
        assert_eq!(replica(same, 1), ["1 10.0.0.10/24", "1 10.0.0.19/24"]);
        assert_eq!(replica(same, 2), ["replica 2: address 10.0.0.20/24 is given twice"]);
        let port = "links: [{service: a, bridge: lan, ip: 10.0.0.1/24, forward: ['80{{index}}0:80/tcp', '8019:81/tcp']}]";
        assert_eq!(replica(port, 1), ["1 10.0.0.1/24"]);
        assert_eq!(replica(port, 2), ["replica 2: port 8020/tcp is forwarded twice"]);
        let patch = "links: [{service: a, bridge: 'b{{index}}', ip: 10.0.0.1/24, forward: '80:80/tcp'}]
bridges: [{bridge: b2, mode: patch}]";
        assert_eq!(replica(patch, 1), ["1 10.0.0.1/24"]);
        assert_eq!(replica(patch, 2), ["replica 2: `b2` has mode patch, which cannot forward ports"]);
        let outer = "links: [{service: a, bridge: lan, outer-dev: 'b{{index}}', ip: 10.0.0.1/24}, {service: b, bridge: b2}]";
        assert_eq!(replica(outer, 1), ["1 10.0.0.1/24"]);
        assert_eq!(replica(outer, 2), ["replica 2: outer interface `b2` has the name of a bridge"]);
    }

    #[test]
    fn the_greatest_number_of_a_replica_is_an_error_where_something_counts() {
        let rest = "service: a, bridge: lan";
        for (counts, expected) in [
            ("ip: 10.0.0.1/24", "10.0.0.1 + 4294967294 is outside of 10.0.0.0/24"),
            ("ip: 'fd00::1/100'", "fd00::1 + 4294967294 is outside of fd00::/100"),
            (
                "mac: '00:ff:ff:ff:ff:ff'",
                "expected the MAC address of one interface, found a group address (its first byte is odd)",
            ),
            ("ip: 0.0.0.1/0, forward: '80:80/tcp'", "port 4294967374 is above 65535"),
            ("ip: 0.0.0.1/0", "expected a host address, found the broadcast address `255.255.255.255`"),
        ] {
            let found = replica(&format!("links: [{{{rest}, {counts}}}]"), u32::MAX);
            assert_eq!(found, [format!("replica {}: {expected}", u32::MAX)]);
        }
    }

    fn names(id: &str) -> Names {
        let name = || String::from("n");
        Names { container: name(), service: name(), project: name(), index: 1, id: id.to_owned() }
    }

    #[test]
    fn outer_names_differ_however_long_those_of_nodes_and_devices_are() {
        let mut seen = BTreeMap::new();
        let services = ["webserver-frontend", "webserver-backend", "webserver-x", "a", "b"];
        for project in ["demo", "demo-webserver", "a-project-with-a-very-long-name"] {
            for service in services {
                for index in 1..=20 {
                    let id = format!("{project}-{service}-{index}@7");
                    let names = Names { index, ..names(&id) };
                    for dev in ["eth0", "ethernet0", "ethernet1", "ethernet10"] {
                        let target = Target::Service(format!("{project}-{service}"));
                        let outer = outer_name(&names, &target, &dev.parse().unwrap());
                        outer.parse::<IfName>().unwrap();
                        let other = seen.insert(outer.clone(), (id.clone(), dev));
                        assert_eq!(other, None, "{outer} is also that of {id} {dev}");
                    }
                }
            }
        }
    }

    #[test]
    fn outer_names_have_the_first_letters_of_an_engines_id() {
        let names = names(&"0123456789abcdef".repeat(4));
        let target = Target::Service("a-long-service".to_owned());
        assert_eq!(outer_name(&names, &target, &"eth0".parse().unwrap()), "c01234567-eth0");
        assert_eq!(
            outer_name(&names, &Target::Service("s".to_owned()), &"eth0".parse().unwrap()),
            "s_1-eth0"
        );
    }
}
