//! Config to network: defaults filled in, and everything checked that depends on several values at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addr::{BadIfName, IfName, Mac};
use crate::config::{
    Base, BridgeConfig, CommandConfig, CommandText, Config, ConfigMode, Diagnostic, LinkConfig, LinkType,
    ServiceConfig, Sources, Span, Spanned, TunnelConfig, TunnelType, tidy,
};
use crate::device::{BridgeOptions, StackedKind};
use crate::network::instantiate::{Bad, Names, differs_by_replica, has_placeholder};
use crate::network::{
    Bridge, BridgeMode, Command, CommandRule, LinkKind, LinkRule, Network, Place, Stacked, Target, Tunnel,
    TunnelKind,
};
use crate::words::near;

/// What holds where the configuration says nothing, and what this machine can do.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub bridge_mode: ConfigMode,
    /// Of veth and dummy.
    pub mtu: u32,
    /// Leave transmit checksum offload of veths on.
    pub keep_veth_offload: bool,
    /// Has this machine Open vSwitch? It decides what mode `auto` is.
    pub ovs: bool,
    /// The compose project that MACs are derived from; empty where there is none.
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
    /// Does it depend on the machine what the bridge is?
    fn asks_for_ovs(&self, mode: Option<ConfigMode>, place: Place, has_options: bool) -> bool {
        mode.unwrap_or(self.bridge_mode) == ConfigMode::Auto && place == Place::Engine && !has_options
    }

    /// Open vSwitch is not for bridges in the host's namespace, which others make, nor for those with options of linux
    /// bridges.
    pub(super) fn mode(&self, mode: Option<ConfigMode>, place: Place, has_options: bool) -> BridgeMode {
        match mode.unwrap_or(self.bridge_mode) {
            ConfigMode::Auto if self.ovs && self.asks_for_ovs(mode, place, has_options) => BridgeMode::Ovs,
            ConfigMode::Auto | ConfigMode::Linux => BridgeMode::Linux,
            ConfigMode::Ovs => BridgeMode::Ovs,
            ConfigMode::Patch => BridgeMode::Patch,
        }
    }
}

/// Turns what the files say into the network they describe, or tells all that is wrong with it.
pub fn resolve(config: Config, sources: Arc<Sources>, defaults: Defaults) -> (Network, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Config { links, bridges, tunnels, commands, services } = config;
    check_services(services.as_ref(), &links, &commands, &mut diagnostics);
    let mut asks_for_ovs =
        defaults.asks_for_ovs(None, Place::Engine, false) && links.iter().any(|it| it.templated);
    let mut network = Network {
        bridges: resolve_bridges(
            &bridges,
            &links,
            tunnels.as_deref().unwrap_or_default(),
            &defaults,
            &sources,
            &mut asks_for_ovs,
            &mut diagnostics,
        ),
        asks_for_ovs,
        names_auto: bridges.iter().any(|it| it.mode.as_ref().is_some_and(|it| it.value == ConfigMode::Auto)),
        tunnels: Vec::new(),
        tunnels_given: tunnels.is_some(),
        links: Vec::new(),
        commands: Vec::new(),
        defaults,
        sources,
    };
    check_patches(
        &network,
        &links,
        tunnels.as_deref().unwrap_or_default(),
        services.as_ref(),
        &mut diagnostics,
    );
    for tunnel in tunnels.iter().flatten() {
        network.tunnels.extend(resolve_tunnel(&network, tunnel, &mut diagnostics));
    }
    check_tunnel_names(tunnels.as_deref().unwrap_or_default(), &mut diagnostics);
    for link in links {
        network.links.extend(resolve_link(&network, link, &mut diagnostics));
    }
    check_together(&network, &mut diagnostics);
    let commands = commands.into_iter();
    let commands: Vec<CommandRule> =
        commands.filter_map(|it| resolve_command(&network.sources, it, &mut diagnostics)).collect();
    network.commands = commands;
    tidy(&mut diagnostics);
    (network, diagnostics)
}

/// Refuses what names no service of the compose files, what several replicas cannot all have, and what would take the
/// host's own way out.
fn check_services(
    services: Option<&BTreeMap<String, ServiceConfig>>,
    links: &[LinkConfig],
    commands: &[CommandConfig],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(services) = services else { return };
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    let targets = links.iter().map(|it| &it.service).chain(commands.iter().map(|it| &it.service));
    for service in targets.flatten().filter(|it| !services.contains_key(&it.value)) {
        let message = format!("no service is named `{}`", service.value);
        let help = match near(&service.value, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give every compose file of the project".to_owned(),
        };
        diagnostics.push(Diagnostic::new(service.span, message).help(help));
    }
    for link in links {
        let Some(name) = &link.service else { continue };
        let Some(service) = services.get(&name.value) else { continue };
        if let (Some(several), Some(outer)) = (service.several, &link.outer_dev)
            && is_veth(link)
            && !differs_by_replica(link, "outer-dev")
        {
            let message =
                format!("every replica of `{}` would have the outer interface `{}`", name.value, outer.value);
            diagnostics.push(
                Diagnostic::new(outer.span, message)
                    .note(several, "the service has several replicas")
                    .help("write `{{index}}` into the name, or leave it out"),
            );
        }
        let Some(host) = service.host_network else { continue };
        for route in link.route.iter().filter(|it| it.value.dst.prefix() == 0 && it.value.is_in_main()) {
            diagnostics.push(
                Diagnostic::new(route.span, "this would be a default route of the host")
                    .note(host, "the service is in the host's network")
                    .help("leave the route out, or put it into another table: `table 100`"),
            );
        }
    }
}

/// A first line of an entry that lacks something.
fn missing(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(span, message)
}

/// Exactly one of `service` and `container`.
fn target(
    node: Span,
    service: Option<&Spanned<String>>,
    container: Option<&Spanned<String>>,
) -> Result<Target, Diagnostic> {
    match (service, container) {
        (Some(it), None) => Ok(Target::Service(it.value.clone())),
        (None, Some(it)) => Ok(Target::Container(it.value.clone())),
        (Some(service), Some(container)) => {
            Err(Diagnostic::new(container.span, "`service` and `container` cannot both be given")
                .note(service.span, "the service")
                .help("leave out one of them"))
        }
        (None, None) => Err(missing(node, "`service` or `container` is missing").help(
            "`service: NAME` for every replica of a compose service, `container: NAME` for one container",
        )),
    }
}

fn resolve_command(
    sources: &Sources,
    config: CommandConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CommandRule> {
    let target = target(config.node.span, config.service.as_ref(), config.container.as_ref());
    let target = target.map_err(|it| diagnostics.push(it)).ok();
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

/// Every bridge that is described or mentioned.
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
            diagnostics.push(missing(config.span, "`bridge`, the name of the bridge, is missing"));
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
    for name in links.iter().filter(|it| is_veth(it)).filter_map(|it| it.bridge.as_ref()) {
        names.entry(&name.value).or_insert(name.span);
    }
    let shown: BTreeSet<&str> = names.keys().copied().collect();
    for name in tunnels.iter().filter_map(|it| it.bridge.as_ref()) {
        names.entry(&name.value).or_insert(name.span);
    }
    let mut bridges = BTreeMap::new();
    for (name, span) in names {
        let (options, spans) = options.remove(name).unwrap_or_default();
        let place = place(name, links, diagnostics);
        let given = modes.get(name).copied().flatten();
        let mode = defaults.mode(given, place, !spans.is_empty());
        *asks_for_ovs |= defaults.asks_for_ovs(given, place, !spans.is_empty());
        if mode == BridgeMode::Ovs && place == Place::Host {
            let message =
                format!("bridge `{name}` has mode ovs, and is in the host's namespace by `base: host`");
            let help = "take mode linux there, or leave out `base`";
            diagnostics.push(Diagnostic::new(span, message).help(help));
        }
        if mode != BridgeMode::Linux {
            for it in spans {
                let message =
                    format!("`{}` is a property of linux bridges, and `{name}` has mode {mode}", it.value);
                diagnostics.push(Diagnostic::new(it.span, message));
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

/// The name of a bridge that is an interface.
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

fn on_bridge<'a>(
    links: &'a [LinkConfig],
    name: &'a str,
) -> impl Iterator<Item = (&'a LinkConfig, &'a Spanned<String>)> {
    links
        .iter()
        .filter(|it| is_veth(it))
        .filter_map(|it| Some((it, it.bridge.as_ref()?)))
        .filter(move |(_, bridge)| bridge.value == name)
}

/// A bridge is where the outer ends of its links are, which is one place for all.
fn place(name: &str, links: &[LinkConfig], diagnostics: &mut Vec<Diagnostic>) -> Place {
    let is_host = |it: &LinkConfig| it.base.as_ref().is_some_and(|it| it.value == Base::Host);
    let (host, engine): (Vec<_>, Vec<_>) =
        on_bridge(links, name).map(|(it, _)| it).partition(|it| is_host(it));
    let Some(base) = host.first().and_then(|it| it.base.as_ref()) else { return Place::Engine };
    if let Some(other) = engine.first() {
        let message = format!("bridge `{name}` has links with base host and links without");
        let other = other.bridge.as_ref().map_or(other.node.span, |it| it.span);
        diagnostics.push(
            Diagnostic::new(base.span, message)
                .note(other, "this link has base conlink")
                .help("a bridge is in one namespace: give all its links the same base"),
        );
    }
    Place::Host
}

/// A patch joins two ends. Links that may not be there at the same time are left to the engine.
fn check_patches(
    network: &Network,
    links: &[LinkConfig],
    tunnels: &[TunnelConfig],
    services: Option<&BTreeMap<String, ServiceConfig>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let is_there = |link: &LinkConfig| match (&link.service, services) {
        (Some(name), Some(services)) => {
            services.get(&name.value).is_none_or(|it| !it.no_replicas && !it.has_profiles)
        }
        (Some(_), None) => true,
        // Which replica a container is, its name alone does not tell.
        (None, _) => !has_placeholder(link, "bridge", 0),
    };
    for bridge in network.bridges.values().filter(|it| it.mode == BridgeMode::Patch) {
        let name = bridge.name.as_str();
        let tunnels = tunnels.iter().filter_map(|it| it.bridge.as_ref()).filter(|it| it.value == name);
        let links = on_bridge(links, name).filter(|(it, _)| is_there(it)).map(|(_, it)| it.span);
        let mut ends: Vec<Span> = links.chain(tunnels.map(|it| it.span)).collect();
        ends.sort();
        if let [first, second, more @ ..] = ends.as_slice() {
            for span in more {
                diagnostics.push(
                    Diagnostic::new(
                        *span,
                        format!("bridge `{name}` has mode patch, which joins exactly two links"),
                    )
                    .note(*first, "the first")
                    .note(*second, "the second")
                    .help("take mode linux for more than two"),
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
    // At most `geneve-16777215`, 15 bytes.
    let name: IfName = format!("{kind}-{vni}").parse().ok()?;
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

fn check_tunnel_names(tunnels: &[TunnelConfig], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(String, u32), Span> = BTreeMap::new();
    for tunnel in tunnels {
        let (Some(kind), Some(vni)) = (&tunnel.kind, &tunnel.vni) else { continue };
        if let Some(first) = seen.insert((kind.value.to_string(), vni.value), vni.span) {
            let message = format!("two {} tunnels have vni {}", kind.value, vni.value);
            diagnostics.push(Diagnostic::new(vni.span, message).note(first, "the first"));
        }
    }
}

/// What links may not have in common.
fn check_together(network: &Network, diagnostics: &mut Vec<Diagnostic>) {
    let mut outers: BTreeMap<(Place, &IfName), Span> = BTreeMap::new();
    let mut modes: BTreeMap<(Place, &IfName), (&str, Span)> = BTreeMap::new();
    let mut users: BTreeMap<(Place, &IfName), (&str, Span)> = BTreeMap::new();
    let mut routes = BTreeMap::new();
    for rule in &network.links {
        let LinkRule { config, sample, target, .. } = rule;
        // Every service has a first replica; which one a container is, its name alone does not tell.
        if let (LinkKind::Veth { place, outer, .. }, Some(given)) = (&sample.kind, &config.outer_dev)
            && (matches!(target, Target::Service(_)) || !has_placeholder(config, "outer-dev", 0))
            && let Some(first) = outers.insert((*place, outer), given.span)
        {
            let message = format!("two links have the outer interface `{outer}`");
            diagnostics.push(Diagnostic::new(given.span, message).note(first, "the first"));
        }
        if let LinkKind::Stacked(Stacked { place, parent, kind }) = &sample.kind
            && let (Some(family), Some(given)) = (family(kind), &config.kind)
            && !["type", "outer-dev", "base"].iter().any(|it| has_placeholder(config, it, 0))
        {
            let (first, span) = *users.entry((*place, parent)).or_insert((family, given.span));
            if first != family {
                let message = format!("`{parent}` is the parent of {first} links and of {family} links");
                let help =
                    "the kernel allows one of the two kinds on a parent: give the links different parents";
                diagnostics.push(Diagnostic::new(given.span, message).note(span, "the first").help(help));
            }
        }
        if config.templated {
            // Replicas may differ in anything else.
            continue;
        }
        if let LinkKind::Stacked(Stacked { place, parent, kind }) = &sample.kind
            && matches!(kind, StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. })
        {
            // A link that names no mode gives its parent l3 (`ipvlan_link_new()` in drivers/net/ipvlan).
            let (mode, span) = match &config.mode {
                Some(it) => (it.value.as_str(), it.span),
                None => ("l3", config.node.span),
            };
            let (first, first_span) = *modes.entry((*place, parent)).or_insert((mode, span));
            if first != mode {
                let message = format!("the links on `{parent}` have modes {first} and {mode}");
                let help = "the mode is the parent's: give all links on one parent the same";
                diagnostics.push(Diagnostic::new(span, message).note(first_span, "the first").help(help));
            }
        }
        for route in &config.route {
            let value = &route.value;
            let Some((first, span)) = routes.insert((target, value.place()), (value, route.span)) else {
                continue;
            };
            let message = match first == value {
                true => "the same route is given twice".to_owned(),
                false => {
                    format!("two routes to {} have one metric: only one of them can be there", value.dst)
                }
            };
            let help = "give them different metrics, or one route several nexthops";
            diagnostics.push(Diagnostic::new(route.span, message).note(span, "the first").help(help));
        }
    }
}

/// The kinds of links that take all frames that arrive at the parent, so that it can have only one of them
/// (`netdev_rx_handler_register()` in `net/core/dev.c`).
fn family(kind: &StackedKind) -> Option<&'static str> {
    match kind {
        StackedKind::Macvlan { .. } | StackedKind::Macvtap { .. } => Some("macvlan"),
        StackedKind::Ipvlan { .. } | StackedKind::Ipvtap { .. } => Some("ipvlan"),
        StackedKind::Vlan { .. } => None,
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
    let target = target(config.node.span, config.service.as_ref(), config.container.as_ref());
    let target = target.map_err(|it| found.push(it)).ok();
    // What could not be read is told already, and so is a bridge of a bad name.
    let bridge = config.bridge.as_ref().and_then(|it| network.bridges.get(&it.value));
    let bad_bridge = bridge.is_some_and(|it| it.mode != BridgeMode::Patch && bridge_name(&it.name).is_err());
    let unread = [
        ("bridge", config.bridge.is_none() || bad_bridge),
        ("vlanid", config.vlanid.is_none()),
        ("outer-dev", config.outer_dev.is_none()),
    ];
    let unread = unread.iter().any(|(key, is_none)| *is_none && config.node.get(key).is_some());
    let resolved = target.filter(|_| found.is_empty() && !unread).and_then(|target| {
        let sample = network.link(&config, &Names::sample(&target), &target);
        let bad = |it: Bad| Diagnostic::new(it.span.unwrap_or(config.node.span), it.message);
        sample.map_err(|it| found.push(bad(it))).ok().map(|it| (target, it))
    });
    diagnostics.append(&mut found);
    let (target, sample) = resolved?;
    Some(LinkRule { target, origin: network.sources.place(config.node.span), config, sample })
}

/// Refuses what a link has twice: as the first replica, for others count up.
fn check_repeats(link: &LinkConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut addrs = BTreeSet::new();
    for ip in link.ip.iter().filter(|it| !addrs.insert(it.value)) {
        let message = format!("address {} is there twice", ip.value);
        found.push(Diagnostic::new(ip.span, message).help("leave out one of them"));
    }
    let mut forwards = BTreeMap::new();
    for it in &link.forward {
        if let Some(first) = forwards.insert((it.value.outer, it.value.protocol), it.span) {
            let message = format!("port {}/{} is forwarded twice", it.value.outer, it.value.protocol);
            found.push(Diagnostic::new(it.span, message).note(first, "the first"));
        }
    }
    found
}

/// Refuses names of outer ends and parents that no such interface can have.
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
        return Some(Diagnostic::new(outer.span, message).help(help));
    }
    if !is_veth(link) {
        return None;
    }
    let is_host = link.base.as_ref().is_some_and(|it| it.value == Base::Host);
    let place = if is_host { Place::Host } else { Place::Engine };
    let bridge = network.bridges.get(outer.value.as_str());
    let bridge = bridge.filter(|it| it.place == place && it.mode != BridgeMode::Patch);
    let tunnel = network.tunnels.iter().find(|it| it.name == outer.value && place == Place::Engine);
    let (span, what) = match (bridge, tunnel) {
        (Some(it), _) => (it.span, "bridge"),
        (None, it) => (it?.config.span, "tunnel"),
    };
    let message = format!("outer interface `{}` has the name of a {what}", outer.value);
    Some(Diagnostic::new(outer.span, message).note(span, format!("the {what}")).help("choose another name"))
}

/// What each type of link has, needs and excludes.
pub(super) fn check_link(network: &Network, link: &LinkConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let kind = link.kind.as_ref().map_or(LinkType::Veth, |it| it.value);
    let a_kind = match kind {
        LinkType::Ipvlan | LinkType::Ipvtap => format!("an {kind}"),
        _ => format!("a {kind}"),
    };
    let node = link.node.span;
    let mut refuse = |span: Option<Span>, message: String, help: &str| {
        found.extend(span.map(|span| Diagnostic::new(span, message).help(help)));
    };
    let (is_ipvlan, is_macvlan) = (
        matches!(kind, LinkType::Ipvlan | LinkType::Ipvtap),
        matches!(kind, LinkType::Macvlan | LinkType::Macvtap),
    );
    if kind != LinkType::Veth {
        refuse(
            link.bridge.as_ref().map(|it| it.span),
            format!("{a_kind} joins no bridge"),
            "only links of type veth have `bridge`",
        );
        refuse(
            link.forward.first().map(|it| it.span),
            format!("{a_kind} cannot forward ports"),
            "only links of type veth have `forward`",
        );
        refuse(
            link.netem_in.as_ref().map(|it| it.span),
            format!("{a_kind} has no outer end, where `netem-in` would be"),
            "only links of type veth have `netem-in`; `netem` is for every type",
        );
    }
    if kind == LinkType::Dummy {
        refuse(
            link.outer_dev.as_ref().map(|it| it.span),
            "a dummy has no outer interface".to_owned(),
            "leave out `outer-dev`",
        );
    }
    if !is_ipvlan && !is_macvlan {
        let help = "`mode` is for ipvlan, ipvtap, macvlan and macvtap";
        refuse(link.mode.as_ref().map(|it| it.span), format!("{a_kind} has no mode"), help);
    }
    if is_ipvlan {
        refuse(
            link.mac.as_ref().map(|it| it.span),
            format!("{a_kind} has the MAC address of its parent"),
            "leave out `mac`",
        );
    }
    if kind != LinkType::Vlan {
        refuse(
            link.vlanid.as_ref().map(|it| it.span),
            format!("{a_kind} has no VLAN id"),
            "`vlanid` is for links of type vlan",
        );
    }
    if link.ip.is_empty() && link.node.get("ip").is_none() {
        let help = "give the link an `ip`";
        refuse(
            link.nat.as_ref().map(|it| it.span),
            "`nat` needs an address to translate to".to_owned(),
            help,
        );
        refuse(
            link.forward.first().map(|it| it.span),
            "`forward` needs an address to forward to".to_owned(),
            help,
        );
    } else if let Some(nat) = &link.nat {
        let same = |it: &Spanned<crate::addr::Cidr>| it.value.addr().is_ipv4() == nat.value.is_ipv4();
        if !link.ip.is_empty() && !link.ip.iter().any(same) {
            refuse(
                Some(nat.span),
                format!("`nat` to {} needs an address of the same family", nat.value),
                "give the link one in `ip`",
            );
        }
    }
    if let Some(mode) = &link.mode {
        let names: Vec<&str> = if is_ipvlan {
            crate::device::IpvlanMode::NAMES.iter().map(|(name, _)| *name).collect()
        } else {
            crate::device::MacvlanMode::NAMES.iter().map(|(name, _)| *name).collect()
        };
        if (is_ipvlan || is_macvlan) && !names.contains(&mode.value.as_str()) {
            let help = format!("there are {}", names.join(", "));
            refuse(Some(mode.span), format!("`{}` is no mode of {kind}", mode.value), &help);
        }
    }
    let bases: &[Base] = match kind {
        LinkType::Veth => &[Base::Conlink, Base::Host],
        LinkType::Dummy => &[Base::Local],
        _ => &[Base::Host, Base::Conlink],
    };
    if let Some(base) = link.base.as_ref().filter(|it| !bases.contains(&it.value)) {
        let known: Vec<String> = bases.iter().map(|it| format!("`{it}`")).collect();
        refuse(
            Some(base.span),
            format!("{a_kind} cannot have base {}", base.value),
            &format!("its base is {}", known.join(" or ")),
        );
    }
    if kind == LinkType::Veth && link.base.as_ref().is_some_and(|it| it.value == Base::Host) {
        refuse(
            link.forward.first().map(|it| it.span),
            "ports are forwarded from the engine's own namespace, and this link's bridge is in the host's"
                .to_owned(),
            "leave out `base`, or `forward`",
        );
    }
    let bridge = link.bridge.as_ref().and_then(|it| network.bridges.get(&it.value));
    if let Some(bridge) = bridge.filter(|it| it.mode == BridgeMode::Patch) {
        let message = format!("`{}` is a patch, which has no ports to forward", bridge.name);
        refuse(link.forward.first().map(|it| it.span), message, "take mode linux or ovs");
        let host = link.base.as_ref().filter(|it| it.value == Base::Host);
        refuse(
            host.map(|it| it.span),
            "a patch cannot be in the host's namespace".to_owned(),
            "leave out `base`",
        );
    }
    let mut need = |key: &str, help: &str| {
        if link.node.get(key).is_none() {
            found.push(missing(node, format!("`{key}` is missing: {a_kind} needs it")).help(help));
        }
    };
    match kind {
        LinkType::Veth => need("bridge", "`bridge: NAME` says which links this one can reach"),
        LinkType::Dummy => {}
        LinkType::Vlan => {
            need("vlanid", "`vlanid: 1` to `4094`");
            need("outer-dev", "`outer-dev: NAME` names its parent interface");
        }
        LinkType::Ipvlan | LinkType::Macvlan | LinkType::Ipvtap | LinkType::Macvtap => {
            need("outer-dev", "`outer-dev: NAME` names its parent interface");
        }
    }
    found
}
