//! Turns a configuration into a network: fills in defaults and checks everything that depends on several values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addr::{BadIfName, IfName, Mac};
use crate::config::{
    Base, BridgeConfig, CommandConfig, CommandText, Config, ConfigMode, Diagnostic, LinkConfig, LinkType,
    Node, Scope, ServiceConfig, Sources, Span, Spanned, TunnelConfig, TunnelType, tidy,
};
use crate::device::{BridgeOptions, IpvlanFlag, IpvlanMode, MacvlanMode, StackedKind};
use crate::network::instantiate::{Bad, Names, differs_by_replica, has_placeholder};
use crate::network::{
    Bridge, BridgeMode, Command, CommandRule, LinkKind, LinkRule, Network, Outside, Place, Stacked, Target,
    Tunnel, TunnelKind,
};
use crate::words::{listed, near};

/// Defaults for what the configuration does not set, and what this machine supports.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub bridge_mode: ConfigMode,
    /// For veth and dummy links.
    pub mtu: u32,
    /// Keep transmit checksum offload of veths on.
    pub keep_veth_offload: bool,
    /// Does this machine have Open vSwitch? Decides what mode `auto` means.
    pub ovs: bool,
    /// The compose project that default MACs are derived from; empty if there is none.
    pub project: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            bridge_mode: ConfigMode::Auto,
            mtu: 65535,
            keep_veth_offload: false,
            ovs: false,
            project: String::new(),
        }
    }
}

impl Defaults {
    /// Does the mode of the bridge depend on the machine?
    fn asks_for_ovs(&self, mode: Option<ConfigMode>, place: Place, has_options: bool) -> bool {
        mode.unwrap_or(self.bridge_mode) == ConfigMode::Auto && place == Place::Engine && !has_options
    }

    /// The mode of a bridge. Mode `auto` is never Open vSwitch for bridges in the host's namespace, which others make, nor
    /// for bridges with options of Linux bridges.
    pub(super) fn mode(&self, mode: Option<ConfigMode>, place: Place, has_options: bool) -> BridgeMode {
        match mode.unwrap_or(self.bridge_mode) {
            ConfigMode::Auto if self.ovs && self.asks_for_ovs(mode, place, has_options) => BridgeMode::Ovs,
            ConfigMode::Auto | ConfigMode::Linux => BridgeMode::Linux,
            ConfigMode::Ovs => BridgeMode::Ovs,
            ConfigMode::Patch => BridgeMode::Patch,
        }
    }
}

/// Turns a configuration into the network that it describes, and reports all mistakes. An entry with an error of
/// [`Scope::Config`] is left out.
pub fn resolve(config: Config, sources: Arc<Sources>, defaults: Defaults) -> (Network, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Config { links, bridges, tunnels, commands, services } = config;
    check_services(services.as_ref(), &links, &commands, &mut diagnostics);
    let mut asks_for_ovs =
        defaults.asks_for_ovs(None, Place::Engine, false) && links.iter().any(|it| it.templated);
    let names_auto = bridges.iter().any(|it| it.mode.as_ref().is_some_and(|it| it.value == ConfigMode::Auto));
    let tunnels_given = tunnels.is_some();
    let tunnels = tunnels.unwrap_or_default();
    let bridges =
        resolve_bridges(&bridges, &links, &tunnels, &defaults, &sources, &mut asks_for_ovs, &mut diagnostics);
    let mut network = Network {
        outside: outside(&bridges, &tunnels, &mut diagnostics),
        bridges,
        asks_for_ovs,
        names_auto,
        tunnels: Vec::new(),
        tunnels_given,
        links: Vec::new(),
        commands: Vec::new(),
        services,
        defaults,
        sources,
    };
    check_patches(&network, &links, &tunnels, &mut diagnostics);
    for tunnel in &tunnels {
        network.tunnels.extend(resolve_tunnel(&network, tunnel, &mut diagnostics));
    }
    for link in links {
        network.links.extend(resolve_link(&network, link, &mut diagnostics));
    }
    check_together(&mut network, &mut diagnostics);
    let commands = commands.into_iter();
    let commands: Vec<CommandRule> =
        commands.filter_map(|it| resolve_command(&network.sources, it, &mut diagnostics)).collect();
    network.commands = commands;
    tidy(&mut diagnostics);
    (network, diagnostics)
}

/// Refuses unknown services, outer interfaces that several replicas would share, and default routes of the host.
fn check_services(
    services: Option<&BTreeMap<String, ServiceConfig>>,
    links: &[LinkConfig],
    commands: &[CommandConfig],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(services) = services else { return };
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    // A suggestion costs as much as there are services, and a missing compose file makes thousands of links wrong.
    let mut suggestions = 0..100;
    let targets = links.iter().map(|it| &it.service).chain(commands.iter().map(|it| &it.service));
    for service in targets.flatten().filter(|it| !services.contains_key(&it.value)) {
        let message = format!("unknown service `{}`", service.value);
        let near = suggestions.next().and_then(|_| near(&service.value, &names));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "pass every compose file of the project".to_owned(),
        };
        let unknown = Diagnostic::new(service.span, message).code("unknown-service");
        diagnostics.push(unknown.scope(Scope::Network).help(help));
    }
    for link in links {
        let Some(name) = &link.service else { continue };
        let Some(service) = services.get(&name.value) else { continue };
        if let (Some(several), Some(outer)) = (service.several(), &link.outer_dev)
            && is_veth(link)
            && !differs_by_replica(link, "outer-dev")
        {
            let message =
                format!("every replica of `{}` would have the outer interface `{}`", name.value, outer.value);
            diagnostics.push(
                Diagnostic::new(outer.span, message)
                    .scope(Scope::Network)
                    .note(several, "the service has several replicas")
                    .help("add `{{index}}` to the name, or remove `outer-dev`"),
            );
        }
        let Some(host) = service.host_network else { continue };
        for route in link.route.iter().filter(|it| it.value.dst.prefix() == 0 && it.value.is_in_main()) {
            diagnostics.push(
                Diagnostic::new(route.span, "this would be a default route of the host")
                    .scope(Scope::Network)
                    .note(host, "the service is in the host's network")
                    .help("remove the route, or use another table: `table 100`"),
            );
        }
    }
}

/// An error about an entry without a required property.
fn missing(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(span, message)
}

/// Exactly one of `service` and `container`. The error is None if it was reported when the entry was read.
fn target(
    node: &Node,
    service: Option<&Spanned<String>>,
    container: Option<&Spanned<String>>,
) -> Result<Target, Option<Diagnostic>> {
    match (service, container) {
        (Some(it), None) => Ok(Target::Service(it.value.clone())),
        (None, Some(it)) => Ok(Target::Container(it.value.clone())),
        (Some(service), Some(container)) => Err(Some(
            Diagnostic::new(container.span, "`service` and `container` cannot both be given")
                .note(service.span, "the service")
                .help("remove one of them"),
        )),
        (None, None) if ["service", "container"].iter().any(|key| node.get(key).is_some()) => Err(None),
        (None, None) => Err(Some(missing(node.span, "`service` or `container` is missing").help(
            "`service: NAME` for every replica of a compose service, `container: NAME` for one container",
        ))),
    }
}

fn resolve_command(
    sources: &Sources,
    config: CommandConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CommandRule> {
    let target = target(&config.node, config.service.as_ref(), config.container.as_ref());
    let target = target.map_err(|it| diagnostics.extend(it)).ok();
    if config.node.get("command").is_none() {
        diagnostics.push(missing(config.node.span, "`command` is missing"));
    }
    let argv = match config.command.clone()? {
        CommandText::Shell(text) => vec!["sh".to_owned(), "-c".to_owned(), text],
        CommandText::Exec(argv) => argv,
    };
    let span = config.node.get("command").map_or(config.node.span, |it| it.span);
    let command = Command { argv, origin: sources.place(span) };
    Some(CommandRule { target: target?, config, command })
}

/// All bridges that have an entry or are mentioned.
fn resolve_bridges(
    configs: &[BridgeConfig],
    links: &[LinkConfig],
    tunnels: &[TunnelConfig],
    defaults: &Defaults,
    sources: &Sources,
    asks_for_ovs: &mut bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Bridge> {
    let mut modes: BTreeMap<&str, Option<ConfigMode>> = BTreeMap::new();
    let mut options: BTreeMap<&str, (BridgeOptions, Vec<&Spanned<String>>)> = BTreeMap::new();
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut origins: BTreeMap<&str, Span> = BTreeMap::new();
    for config in configs {
        let Some(name) = &config.bridge else {
            diagnostics.push(missing(config.span, "`bridge` is missing: it names the bridge"));
            continue;
        };
        names.entry(&name.value).or_insert(name.span);
        origins.entry(&name.value).or_insert(config.span);
        let mode = modes.entry(&name.value).or_default();
        *mode = config.mode.as_ref().map(|it| it.value).or(*mode);
        let (merged, spans) = options.entry(&name.value).or_default();
        merged.override_with(&config.options);
        spans.extend(&config.option_spans);
    }
    // Like the reference tool, also those of links that cannot join one.
    for name in links.iter().filter_map(|it| it.bridge.as_ref()) {
        names.entry(&name.value).or_insert(name.span);
    }
    let shown: BTreeSet<&str> = names.keys().copied().collect();
    for name in tunnels.iter().filter_map(|it| it.bridge.as_ref()) {
        names.entry(&name.value).or_insert(name.span);
    }
    let joined = by_bridge(links);
    let mut bridges = BTreeMap::new();
    for (name, span) in names {
        let (options, spans) = options.remove(name).unwrap_or_default();
        let place = place(name, joined.get(name).map_or(&[], Vec::as_slice), diagnostics);
        let given = modes.get(name).copied().flatten();
        let mode = defaults.mode(given, place, !spans.is_empty());
        *asks_for_ovs |= defaults.asks_for_ovs(given, place, !spans.is_empty());
        if mode == BridgeMode::Ovs && place == Place::Host {
            let message =
                format!("bridge `{name}` has mode ovs, and is in the host's namespace by `base: host`");
            let help = "use mode linux, or remove `base`";
            diagnostics.push(Diagnostic::new(span, message).scope(Scope::Network).help(help));
        }
        if mode != BridgeMode::Linux {
            for it in spans {
                let message =
                    format!("`{}` is a property of linux bridges, and `{name}` has mode {mode}", it.value);
                diagnostics.push(Diagnostic::new(it.span, message).scope(Scope::Network));
            }
        }
        if mode != BridgeMode::Patch
            && let Err(bad) = bridge_name(name)
        {
            let help = format!("a bridge of mode {mode} is an interface of that name");
            diagnostics.push(Diagnostic::new(span, bad).help(help));
        }
        let shown = shown.contains(name);
        let origin = origins.remove(name).map(|it| sources.place(it));
        let name = name.to_owned();
        bridges.insert(name.clone(), Bridge { name, mode, options, place, shown, span, origin });
    }
    bridges
}

/// The name of a bridge that is also an interface.
pub(super) fn bridge_name(name: &str) -> Result<IfName, String> {
    let bad = |it: BadIfName| format!("`{name}` cannot name a bridge: {it}");
    name.parse::<IfName>().and_then(IfName::to_make).map_err(bad)
}

impl BridgeOptions {
    fn override_with(&mut self, later: &Self) {
        let Self { stp, vlan_filtering, mcast_snooping, group_fwd_mask, mtu, ageing_time, forward_delay } =
            later;
        self.stp = stp.or(self.stp);
        self.vlan_filtering = vlan_filtering.or(self.vlan_filtering);
        self.mcast_snooping = mcast_snooping.or(self.mcast_snooping);
        self.group_fwd_mask = group_fwd_mask.or(self.group_fwd_mask);
        self.mtu = mtu.or(self.mtu);
        self.ageing_time = ageing_time.or(self.ageing_time);
        self.forward_delay = forward_delay.or(self.forward_delay);
    }
}

fn is_veth(link: &LinkConfig) -> bool {
    link.kind.as_ref().is_none_or(|it| it.value == LinkType::Veth)
}

/// The veth links on each bridge, in the order of the configuration.
fn by_bridge(links: &[LinkConfig]) -> BTreeMap<&str, Vec<&LinkConfig>> {
    let mut all: BTreeMap<&str, Vec<&LinkConfig>> = BTreeMap::new();
    for link in links.iter().filter(|it| is_veth(it)) {
        if let Some(bridge) = &link.bridge {
            all.entry(&bridge.value).or_default().push(link);
        }
    }
    all
}

/// The namespace of a bridge: that of the outer ends of its links, which must be the same for all.
fn place(name: &str, links: &[&LinkConfig], diagnostics: &mut Vec<Diagnostic>) -> Place {
    let host = |it: &&LinkConfig| it.base.as_ref().is_some_and(|it| it.value == Base::Host);
    let first = links.iter().copied().find(host);
    let Some(base) = first.and_then(|it| it.base.as_ref()) else { return Place::Engine };
    if let Some(other) = links.iter().find(|it| !host(it)) {
        let message = format!("bridge `{name}` has links with base host and links without");
        let other = other.bridge.as_ref().map_or(other.node.span, |it| it.span);
        diagnostics.push(
            Diagnostic::new(base.span, message)
                .scope(Scope::Network)
                .note(other, "this link has base conlink")
                .help("a bridge is in one namespace: give all its links the same base"),
        );
    }
    Place::Host
}

/// Refuses a third end of a patch. The engine checks links that may not exist at the same time.
fn check_patches(
    network: &Network,
    links: &[LinkConfig],
    tunnels: &[TunnelConfig],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let is_there = |link: &LinkConfig| match (&link.service, &network.services) {
        (Some(name), Some(services)) => services.get(&name.value).is_none_or(ServiceConfig::is_there),
        (Some(_), None) => true,
        // Which replica a container is, its name alone does not tell.
        (None, _) => !has_placeholder(link, "bridge", 0),
    };
    let joined = by_bridge(links);
    let mut tunnelled: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for bridge in tunnels.iter().filter_map(|it| it.bridge.as_ref()) {
        tunnelled.entry(&bridge.value).or_default().push(bridge.span);
    }
    for bridge in network.bridges.values().filter(|it| it.mode == BridgeMode::Patch) {
        let name = bridge.name.as_str();
        let links = joined.get(name).into_iter().flatten().filter(|it| is_there(it));
        let links = links.filter_map(|it| it.bridge.as_ref()).map(|it| it.span);
        let mut ends: Vec<Span> = links.chain(tunnelled.remove(name).into_iter().flatten()).collect();
        ends.sort();
        if let [first, second, more @ ..] = ends.as_slice() {
            for span in more {
                diagnostics.push(
                    Diagnostic::new(
                        *span,
                        format!("bridge `{name}` has mode patch, which joins exactly two links"),
                    )
                    .code("patch-ends")
                    .scope(Scope::Network)
                    .note(*first, "the first")
                    .note(*second, "the second")
                    .help("use mode linux for more than two"),
                );
            }
        }
    }
}

fn resolve_tunnel(
    network: &Network,
    config: &TunnelConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Tunnel> {
    let span = config.node.span;
    for key in ["type", "bridge", "remote", "vni"] {
        if config.node.get(key).is_none() {
            diagnostics.push(
                missing(span, format!("`{key}` is missing"))
                    .help("a tunnel has `type`, `bridge`, `remote` and `vni`"),
            );
        }
    }
    if let (Some(local), Some(remote)) = (&config.local, &config.remote)
        && local.value.is_ipv4() != remote.value.is_ipv4()
    {
        let message = format!("`{}` and remote `{}` are of different families", local.value, remote.value);
        diagnostics.push(Diagnostic::new(local.span, message).note(remote.span, "the remote"));
    }
    if let (Some(local), Some(TunnelType::Geneve)) = (&config.local, config.kind.as_ref().map(|it| it.value))
    {
        let help = "the kernel takes the address that its route to the remote has; vxlan has `local`";
        diagnostics.push(Diagnostic::new(local.span, "a geneve tunnel has no `local`").help(help));
    }
    let kind = match config.kind.as_ref()?.value {
        TunnelType::Geneve => TunnelKind::Geneve,
        TunnelType::Vxlan => TunnelKind::Vxlan,
    };
    let vni = config.vni.as_ref()?.value;
    let name = tunnel_name(config)?;
    let mac = config.mac.as_ref().map(|it| it.value);
    Some(Tunnel {
        mac: mac.unwrap_or_else(|| Mac::stable(&[&network.defaults.project, "tunnel", name.as_str()])),
        name,
        kind,
        bridge: config.bridge.as_ref()?.value.clone(),
        remote: config.remote.as_ref()?.value,
        vni,
        netem: config.netem.as_ref().map(|it| it.value.clone()),
        dstport: config.dstport.as_ref().map(|it| it.value),
        local: config.local.as_ref().map(|it| it.value),
        ttl: config.ttl.as_ref().map(|it| it.value),
        mtu: config.mtu.as_ref().map(|it| it.value),
        origin: network.sources.place(span),
        config: config.node.clone(),
    })
}

/// At most `geneve-16777215`, 15 bytes.
fn tunnel_name(config: &TunnelConfig) -> Option<IfName> {
    format!("{}-{}", config.kind.as_ref()?.value, config.vni.as_ref()?.value).parse().ok()
}

/// The interfaces of bridges and tunnels. Refuses two with one name.
fn outside(
    bridges: &BTreeMap<String, Bridge>,
    tunnels: &[TunnelConfig],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<(Place, IfName), Outside> {
    let interfaces = bridges.values().filter(|it| it.mode != BridgeMode::Patch);
    let named = interfaces.filter_map(|it| Some((it, it.name.parse().ok()?)));
    let mut all: BTreeMap<(Place, IfName), Outside> =
        named.map(|(it, name)| ((it.place, name), Outside::Bridge(it.span))).collect();
    for tunnel in tunnels {
        let (Some(name), Some(kind), Some(vni)) = (tunnel_name(tunnel), &tunnel.kind, &tunnel.vni) else {
            continue;
        };
        let Some(first) = all.get(&(Place::Engine, name.clone())) else {
            all.insert((Place::Engine, name), Outside::Tunnel(tunnel.node.span));
            continue;
        };
        let same = |message: String| Diagnostic::new(vni.span, message).scope(Scope::Network);
        diagnostics.push(match *first {
            Outside::Tunnel(span) => {
                same(format!("two {} tunnels have vni {}", kind.value, vni.value)).note(span, "the first")
            }
            Outside::Bridge(span) => {
                same(format!("the tunnel's interface `{name}` has the name of a bridge"))
                    .note(span, "the bridge")
                    .help("choose another name for the bridge, or another `vni`")
            }
        });
    }
    all
}

/// Checks what links may not have in common. What only the later link suffers from becomes its fault.
fn check_together(network: &mut Network, diagnostics: &mut Vec<Diagnostic>) {
    let mut outers: BTreeMap<(Place, &IfName), Span> = BTreeMap::new();
    let mut parents: BTreeMap<(Place, &IfName), Parent> = BTreeMap::new();
    let mut routes = BTreeMap::new();
    let mut faults = Vec::new();
    for (at, LinkRule { config, sample, target, .. }) in network.links.iter().enumerate() {
        // Every service has a first replica; the name of a container does not tell which replica it is.
        if let (LinkKind::Veth { place, outer, .. }, Some(given)) = (&sample.kind, &config.outer_dev)
            && (matches!(target, Target::Service(_)) || !has_placeholder(config, "outer-dev", 0))
            && let Some(first) = outers.insert((*place, outer), given.span)
        {
            let message = format!("two links have the outer interface `{outer}`");
            let twice = Diagnostic::new(given.span, message).code("duplicate-outer-dev");
            diagnostics.push(twice.scope(Scope::Network).note(first, "the first"));
        }
        if let LinkKind::Stacked(Stacked { place, parent, kind }) = &sample.kind {
            let known = parents.entry((*place, parent)).or_default();
            diagnostics.extend(known.add(parent, config, *kind));
        }
        if config.templated {
            // Replicas may differ in anything else.
            continue;
        }
        for route in &config.route {
            let value = &route.value;
            let Some((first, span)) = routes.insert((target, value.place()), (value, route.span)) else {
                continue;
            };
            let message = match first == value {
                true => "the same route is given twice".to_owned(),
                false => format!("two routes to {} have the same metric", value.dst),
            };
            let help = "give them different metrics, or give one route several nexthops";
            let twice = Diagnostic::new(route.span, message).code("duplicate-route").scope(Scope::Link);
            faults.push((at, twice.note(span, "the first").help(help)));
        }
    }
    for (at, fault) in faults {
        if let Some(it) = network.links.get_mut(at) {
            it.fault.get_or_insert_with(|| fault.clone());
        }
        diagnostics.push(fault);
    }
}

/// What the links on one parent interface have in common, each with the place where it is first given.
#[derive(Default)]
struct Parent {
    family: Option<(&'static str, Span)>,
    mode: Option<(String, Span)>,
    flag: Option<(String, Span)>,
}

impl Parent {
    /// Adds a link; an error for each property in which it differs from earlier ones.
    fn add(&mut self, parent: &IfName, config: &LinkConfig, kind: StackedKind) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if let (Some(family), Some(given)) = (family(&kind), &config.kind)
            && !["type", "outer-dev", "base"].iter().any(|it| has_placeholder(config, it, 0))
        {
            let (first, span) = *self.family.get_or_insert((family, given.span));
            if first != family {
                let message = format!("`{parent}` is the parent of {first} links and of {family} links");
                let help = "the kernel allows only one of the two on a parent: use different parents";
                let mixed = Diagnostic::new(given.span, message).code("mixed-parent").scope(Scope::Link);
                found.push(mixed.note(span, "the first").help(help));
            }
        }
        if config.templated || !matches!(kind, StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. }) {
            return found;
        }
        let mut same = |what: &str, known: &mut Option<(String, Span)>, value: String, span: Span| {
            let (first, first_span) = known.get_or_insert((value.clone(), span));
            if *first != value {
                let message = format!("the links on `{parent}` have {what}s {first} and {value}");
                let help = format!("the {what} belongs to the parent: give all its links the same");
                let mixed = Diagnostic::new(span, message).code("mixed-parent").scope(Scope::Network);
                found.push(mixed.note(*first_span, "the first").help(help));
            }
        };
        // A link without a mode sets its parent to l3 (`ipvlan_link_new()` in drivers/net/ipvlan).
        let (mode, span) = match (&config.mode, kind.mode()) {
            (Some(it), Some(mode)) => (mode, it.span),
            _ => ("l3".to_owned(), config.node.span),
        };
        same("mode", &mut self.mode, mode, span);
        if let Some(flag) = &config.flag {
            same("flag", &mut self.flag, flag.value.to_string(), flag.span);
        }
        found
    }
}

/// The kinds of links that take all frames from the parent, which allows only one such kind
/// (`netdev_rx_handler_register()` in `net/core/dev.c`).
fn family(kind: &StackedKind) -> Option<&'static str> {
    match kind {
        StackedKind::Macvlan { .. } | StackedKind::Macvtap { .. } => Some("macvlan"),
        StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. } => Some("ipvlan"),
        StackedKind::Vlan { .. } | StackedKind::Ipoib { .. } => None,
    }
}

fn resolve_link(
    network: &Network,
    config: LinkConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<LinkRule> {
    let mut found = check_link(network, &config);
    found.extend(check_repeats(&config));
    // Which replica a container is, its name alone does not tell.
    if config.service.is_some() || !has_placeholder(&config, "outer-dev", 0) {
        found.extend(check_outer(network, &config));
    }
    let target = target(&config.node, config.service.as_ref(), config.container.as_ref());
    let target = target.map_err(|it| found.extend(it)).ok();
    // Values that could not be read, and bad bridge names, are already reported.
    let bridge = config.bridge.as_ref().and_then(|it| network.bridges.get(&it.value));
    let bad_bridge = bridge.is_some_and(|it| it.mode != BridgeMode::Patch && bridge_name(&it.name).is_err());
    let unread = [
        ("bridge", config.bridge.is_none() || bad_bridge),
        ("vlanid", config.vlanid.is_none()),
        ("outer-dev", config.outer_dev.is_none()),
    ];
    let unread = unread.iter().any(|(key, is_none)| *is_none && config.node.get(key).is_some());
    let is_usable = !unread && !found.iter().any(|it| it.stops(Scope::Config));
    let fault =
        config.faults.iter().chain(&found).find(|it| it.stops(Scope::Link) && it.scope == Scope::Link);
    let fault = fault.cloned();
    let resolved = target.filter(|_| is_usable).and_then(|target| {
        let sample = network.link(&config, &Names::sample(&target), &target);
        let bad = |it: Bad| Diagnostic::new(it.span.unwrap_or(config.node.span), it.message);
        sample.map_err(|it| found.push(bad(it))).ok().map(|it| (target, it))
    });
    diagnostics.append(&mut found);
    let (target, sample) = resolved?;
    Some(LinkRule { target, origin: network.sources.place(config.node.span), config, sample, fault })
}

/// Refuses duplicates within a link. The first replica is enough: all count up alike.
fn check_repeats(link: &LinkConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut addrs = BTreeSet::new();
    for ip in link.ip.iter().filter(|it| !addrs.insert(it.value)) {
        let message = format!("address {} is given twice", ip.value);
        found.push(Diagnostic::new(ip.span, message).help("remove one of them"));
    }
    let mut forwards = BTreeMap::new();
    for it in &link.forward {
        if let Some(first) = forwards.insert((it.value.outer, it.value.protocol), it.span) {
            let message = format!("port {}/{} is forwarded twice", it.value.outer, it.value.protocol);
            found.push(Diagnostic::new(it.span, message).scope(Scope::Network).note(first, "the first"));
        }
    }
    found
}

/// Refuses outer interfaces and parents with impossible names.
pub(super) fn check_outer(network: &Network, link: &LinkConfig) -> Option<Diagnostic> {
    let outer = link.outer_dev.as_ref()?;
    if let Err(bad) = outer.value.clone().to_make() {
        let (message, help) = match is_veth(link) {
            true => (bad.to_string(), "choose another name"),
            false => (
                format!("`{}` cannot be the parent of another interface", outer.value),
                "name an Ethernet interface",
            ),
        };
        return Some(Diagnostic::new(outer.span, message).scope(Scope::Network).help(help));
    }
    if !is_veth(link) {
        return None;
    }
    let is_host = link.base.as_ref().is_some_and(|it| it.value == Base::Host);
    let place = if is_host { Place::Host } else { Place::Engine };
    let (span, what) = match *network.outside.get(&(place, outer.value.clone()))? {
        Outside::Bridge(span) => (span, "bridge"),
        Outside::Tunnel(span) => (span, "tunnel"),
    };
    let message = format!("outer interface `{}` has the name of a {what}", outer.value);
    let same = Diagnostic::new(outer.span, message).scope(Scope::Network);
    Some(same.note(span, format!("the {what}")).help("choose another name"))
}

/// Checks the properties of a link against its type. An ignored property is a warning; what the kernel would refuse is
/// an error of the link.
pub(super) fn check_link(network: &Network, link: &LinkConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let kind = link.kind.as_ref().map_or(LinkType::Veth, |it| it.value);
    let a_kind = match kind {
        LinkType::Ipvlan | LinkType::Ipvtap => format!("an {kind}"),
        _ => format!("a {kind}"),
    };
    check_ignored(link, kind, &a_kind, &mut found);
    let node = link.node.span;
    let mut refuse = |scope: Scope, span: Option<Span>, message: String, help: &str| {
        found.extend(span.map(|span| Diagnostic::new(span, message).scope(scope).help(help)));
    };
    let forward = link.forward.first().map(|it| it.span);
    if kind != LinkType::Veth {
        let help = "only links of type veth have `forward`";
        refuse(Scope::Config, forward, format!("{a_kind} cannot forward ports"), help);
        refuse(
            Scope::Link,
            link.netem_in.as_ref().map(|it| it.span),
            format!("{a_kind} has no outer end, where `netem-in` would be"),
            "only links of type veth have `netem-in`; `netem` works on every type",
        );
    }
    if is_ipvlan(kind) {
        let message = format!("{a_kind} has the MAC address of its parent");
        refuse(Scope::Link, link.mac.as_ref().map(|it| it.span), message, "remove `mac`");
    }
    if link.ip.is_empty() && link.node.get("ip").is_none() {
        let help = "give the link an `ip`";
        let nat = link.nat.as_ref().map(|it| it.span);
        refuse(Scope::Link, nat, "`nat` needs an address to translate to".to_owned(), help);
        refuse(Scope::Config, forward, "`forward` needs an address to forward to".to_owned(), help);
    } else if let Some(nat) = &link.nat {
        let same = |it: &Spanned<crate::addr::Cidr>| it.value.addr().is_ipv4() == nat.value.is_ipv4();
        if !link.ip.is_empty() && !link.ip.iter().any(same) {
            let message = format!("`nat` to {} needs an address of the same family", nat.value);
            refuse(Scope::Link, Some(nat.span), message, "add one to `ip`");
        }
    }
    if let Some(mode) = &link.mode {
        let names: Vec<&str> = match kind {
            LinkType::Ipvlan | LinkType::Ipvtap => IpvlanMode::NAMES.iter().map(|(name, _)| *name).collect(),
            _ => MacvlanMode::NAMES.iter().map(|(name, _)| *name).collect(),
        };
        let is_flag = IpvlanFlag::NAMES.iter().any(|(name, _)| *name == mode.value);
        if has_mode(kind) && !names.contains(&mode.value.as_str()) {
            let mut help = format!("expected {}", listed(&names));
            if is_ipvlan(kind) && is_flag {
                help = format!("`flag: {}` sets the flag of that name; {help}", mode.value);
            }
            refuse(Scope::Link, Some(mode.span), format!("unknown mode `{}` of {a_kind}", mode.value), &help);
        }
    }
    let bases: &[Base] = match kind {
        LinkType::Veth => &[Base::Conlink, Base::Host],
        LinkType::Dummy => &[Base::Local],
        _ => &[Base::Host, Base::Conlink],
    };
    if let Some(base) = link.base.as_ref().filter(|it| !bases.contains(&it.value)) {
        let known: Vec<String> = bases.iter().map(ToString::to_string).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("{a_kind} cannot have base {}", base.value);
        refuse(Scope::Link, Some(base.span), message, &format!("expected {}", listed(&known)));
    }
    let host = link.base.as_ref().filter(|it| it.value == Base::Host).map(|it| it.span);
    if kind == LinkType::Veth && host.is_some() {
        let message =
            "ports are forwarded in the engine's namespace, and this link's bridge is in the host's";
        refuse(Scope::Network, forward, message.to_owned(), "remove `base` or `forward`");
    }
    let bridge = link.bridge.as_ref().and_then(|it| network.bridges.get(&it.value));
    if let Some(bridge) = bridge.filter(|it| kind == LinkType::Veth && it.mode == BridgeMode::Patch) {
        let message = format!("`{}` has mode patch, which cannot forward ports", bridge.name);
        refuse(Scope::Config, forward, message, "use mode linux or ovs");
        let message = "a patch cannot be in the host's namespace".to_owned();
        refuse(Scope::Network, host, message, "remove `base`");
    }
    let mut need = |key: &str, help: &str| {
        if link.node.get(key).is_none() {
            found.push(missing(node, format!("`{key}` is missing: {a_kind} needs it")).help(help));
        }
    };
    match kind {
        LinkType::Veth => need("bridge", "`bridge: NAME` names the bridge that the link joins"),
        LinkType::Dummy => {}
        LinkType::Vlan => {
            need("vlanid", "`vlanid: N` is the VLAN id, from 1 to 4094");
            need("outer-dev", "`outer-dev: NAME` names its parent interface");
        }
        LinkType::Ipvlan | LinkType::Macvlan | LinkType::Ipvtap | LinkType::Macvtap => {
            need("outer-dev", "`outer-dev: NAME` names its parent interface");
        }
    }
    found
}

/// Warns of properties that have no effect on links of the type.
fn check_ignored(link: &LinkConfig, kind: LinkType, a_kind: &str, found: &mut Vec<Diagnostic>) {
    let mut ignored = |span: Option<Span>, key: &str, of: &str| {
        found.extend(span.map(|span| {
            Diagnostic::warning(span, format!("{a_kind} has no `{key}`: the property is ignored"))
                .code("ignored-property")
                .help(format!("remove it; `{key}` is for links of type {of}"))
        }));
    };
    if kind != LinkType::Veth {
        ignored(link.bridge.as_ref().map(|it| it.span), "bridge", "veth");
    }
    if kind == LinkType::Dummy {
        let of = "veth, vlan, macvlan, macvtap, ipvlan and ipvtap";
        ignored(link.outer_dev.as_ref().map(|it| it.span), "outer-dev", of);
    }
    if !has_mode(kind) {
        ignored(link.mode.as_ref().map(|it| it.span), "mode", "macvlan, macvtap, ipvlan and ipvtap");
    }
    if !is_ipvlan(kind) {
        ignored(link.flag.as_ref().map(|it| it.span), "flag", "ipvlan and ipvtap");
    }
    if kind != LinkType::Vlan {
        ignored(link.vlanid.as_ref().map(|it| it.span), "vlanid", "vlan");
    }
}

fn is_ipvlan(kind: LinkType) -> bool {
    matches!(kind, LinkType::Ipvlan | LinkType::Ipvtap)
}

fn has_mode(kind: LinkType) -> bool {
    is_ipvlan(kind) || matches!(kind, LinkType::Macvlan | LinkType::Macvtap)
}

impl ServiceConfig {
    /// Does it start without being asked for?
    pub(super) fn is_there(&self) -> bool {
        self.count() > 0 && !self.has_profiles
    }

    /// How many replicas it has.
    pub(super) fn count(&self) -> u32 {
        self.replicas.as_ref().map_or(1, |it| it.value)
    }
}
