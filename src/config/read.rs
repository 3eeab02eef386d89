//! Converts the merged document to types, checks each key and value, and collects all mistakes.

use std::ops::RangeInclusive;

use crate::config::diagnostic::{Diagnostic, Scope};
use crate::config::placeholder::{self, Vars};
use crate::config::source::{Sources, Spanned};
use crate::config::value::Reader;
use crate::config::yaml::{Node, Value};
use crate::config::{
    Base, BridgeConfig, CommandConfig, CommandText, Config, ConfigMode, LinkConfig, LinkType, TunnelConfig,
    TunnelType,
};
use crate::device::{BridgeOptions, IpvlanFlag};
use crate::ethtool::Ethtool;
use crate::route::Route;

const LINK_KEYS: [&str; 21] = [
    "type",
    "service",
    "container",
    "bridge",
    "dev",
    "outer-dev",
    "ip",
    "mac",
    "mtu",
    "route",
    "nat",
    "netem",
    "netem-in",
    "mode",
    "flag",
    "vlanid",
    "forward",
    "ethtool",
    "base",
    "required",
    "repair",
];
const BRIDGE_KEYS: [&str; 9] = [
    "bridge",
    "mode",
    "stp",
    "vlan-filtering",
    "mcast-snooping",
    "group-fwd-mask",
    "mtu",
    "ageing-time",
    "forward-delay",
];
const TUNNEL_KEYS: [&str; 10] =
    ["type", "bridge", "remote", "vni", "netem", "dstport", "local", "ttl", "mtu", "mac"];
const COMMAND_KEYS: [&str; 3] = ["service", "container", "command"];

/// MTUs that the kernel accepts for an interface with IPv4 (`ETH_MIN_MTU`, `ETH_MAX_MTU` in
/// `include/uapi/linux/if_ether.h`).
const MTU: RangeInclusive<u32> = 68..=65535;

/// Reads the merged document.
pub(super) fn config(node: &Node, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let mut reader = Reader { sources, diagnostics };
    let mut config = Config::default();
    for (key, value) in reader.entries(node, &["links", "bridges", "tunnels", "commands"]) {
        match key.text.as_str() {
            "links" => {
                for it in reader.items(value) {
                    let vars = placeholder::sample(it);
                    let (link, found) = LinkConfig::read(it, sources, &vars);
                    reader.diagnostics.extend(found);
                    config.links.push(link);
                }
            }
            "bridges" => {
                config.bridges = reader.items(value).into_iter().map(|it| reader.bridge(it)).collect()
            }
            "tunnels" => {
                config.tunnels = Some(reader.items(value).into_iter().map(|it| reader.tunnel(it)).collect());
            }
            "commands" => {
                config.commands = reader.items(value).into_iter().map(|it| reader.command(it)).collect()
            }
            _ => {}
        }
    }
    config
}

impl LinkConfig {
    /// Reads an entry of `links:`, its placeholders replaced by `vars`.
    pub fn read(node: &Node, sources: &Sources, vars: &Vars) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let templated = placeholder::is_in(node);
        let mut filled = node.clone();
        if templated {
            placeholder::fill(&mut filled, vars, sources, &mut diagnostics);
        }
        let mut link = Self {
            node: node.clone(),
            templated,
            kind: None,
            service: None,
            container: None,
            bridge: None,
            dev: None,
            outer_dev: None,
            ip: Vec::new(),
            mac: None,
            mtu: None,
            route: Vec::new(),
            nat: None,
            netem: None,
            netem_in: None,
            mode: None,
            flag: None,
            vlanid: None,
            forward: Vec::new(),
            ethtool: Vec::new(),
            base: None,
            required: false,
            repair: false,
            faults: Vec::new(),
        };
        let broken = diagnostics.clone();
        let mut reader = Reader { sources, diagnostics: &mut diagnostics };
        for (key, value) in reader.entries(&filled, &LINK_KEYS) {
            match key.text.as_str() {
                "type" => link.kind = reader.named(value, "type of a link", LinkType::NAMES),
                "service" => link.service = reader.name(value),
                "container" => link.container = reader.name(value),
                "bridge" => link.bridge = reader.name(value),
                "dev" => link.dev = reader.name_to_make(value),
                "outer-dev" => link.outer_dev = reader.parsed(value),
                "ip" => link.ip = reader.each(value, Reader::host),
                "mac" => link.mac = reader.parsed(value),
                "mtu" => link.mtu = reader.number(value, MTU),
                "route" => link.route = reader.each(value, |it, text| it.grammar(text, Route::parse)),
                "nat" => link.nat = reader.address(value),
                "netem" => link.netem = reader.netem(value),
                "netem-in" => link.netem_in = reader.netem(value),
                "mode" => link.mode = reader.name(value),
                "flag" => link.flag = reader.named(value, "flag of a link", &IpvlanFlag::NAMES),
                "vlanid" => link.vlanid = reader.number(value, 1..=4094),
                "forward" => link.forward = reader.each(value, Reader::parse),
                "ethtool" => link.ethtool = reader.each(value, |it, text| it.grammar(text, Ethtool::parse)),
                "base" => link.base = reader.named(value, "base of a link", Base::NAMES),
                "required" => link.required = reader.boolean(value).unwrap_or_default(),
                "repair" => link.repair = reader.boolean(value).unwrap_or_default(),
                _ => {}
            }
        }
        // An unknown placeholder leaves a string without a value to read.
        let within = |it: &Diagnostic, whole: &Diagnostic| {
            whole.span.zip(it.span).is_some_and(|(part, whole)| whole != part && whole.contains(part))
        };
        diagnostics.retain(|it| !broken.iter().any(|part| within(it, part)));
        link.faults = diagnostics.iter().filter(|it| it.scope == Scope::Link).cloned().collect();
        (link, diagnostics)
    }
}

impl Reader<'_> {
    fn bridge(&mut self, node: &Node) -> BridgeConfig {
        let mut bridge = BridgeConfig {
            span: node.span,
            bridge: None,
            mode: None,
            options: BridgeOptions::default(),
            option_spans: Vec::new(),
        };
        let options = &mut bridge.options;
        for (key, value) in self.entries(node, &BRIDGE_KEYS) {
            match key.text.as_str() {
                "bridge" => bridge.bridge = self.name(value),
                "mode" => bridge.mode = self.named(value, "mode of a bridge", ConfigMode::NAMES),
                "stp" => options.stp = self.boolean(value),
                "vlan-filtering" => options.vlan_filtering = self.boolean(value),
                "mcast-snooping" => options.mcast_snooping = self.boolean(value),
                "group-fwd-mask" => options.group_fwd_mask = self.group_fwd_mask(value),
                "mtu" => options.mtu = self.number(value, MTU).map(|it| it.value),
                // Seconds that fit the kernel's hundredths (`br_set_ageing_time()` in net/bridge/br_stp.c).
                "ageing-time" => options.ageing_time = self.number(value, 0..=1_000_000).map(|it| it.value),
                // 802.1D bounds, enforced while STP runs (`BR_MIN_FORWARD_DELAY` in net/bridge/br_private_stp.h).
                "forward-delay" => options.forward_delay = self.number(value, 0..=30).map(|it| it.value),
                _ => {}
            }
            if !matches!(key.text.as_str(), "bridge" | "mode") && !key.text.starts_with("x-") {
                bridge.option_spans.push(Spanned { value: key.text.clone(), span: key.span });
            }
        }
        bridge
    }

    fn group_fwd_mask(&mut self, node: &Node) -> Option<u16> {
        let mask: Spanned<u16> = self.number(node, 0..=0xffff)?;
        if mask.value & 7 != 0 {
            let message =
                format!("no linux bridge forwards the groups of bits 0 to 2, found {:#x}", mask.value);
            let help = "LLDP alone is 0x4000; STP, pause and LACP frames pass a bridge of mode `patch`";
            self.diagnostics.push(Diagnostic::new(mask.span, message).help(help));
            return None;
        }
        Some(mask.value)
    }

    fn tunnel(&mut self, node: &Node) -> TunnelConfig {
        let mut tunnel = TunnelConfig {
            node: node.clone(),
            kind: None,
            bridge: None,
            remote: None,
            vni: None,
            netem: None,
            dstport: None,
            local: None,
            ttl: None,
            mtu: None,
            mac: None,
        };
        for (key, value) in self.entries(node, &TUNNEL_KEYS) {
            match key.text.as_str() {
                "type" => tunnel.kind = self.named(value, "type of a tunnel", TunnelType::NAMES),
                "bridge" => tunnel.bridge = self.name(value),
                "remote" => tunnel.remote = self.address(value),
                "vni" => tunnel.vni = self.number(value, 1..=16_777_215),
                "netem" => {
                    let before = self.diagnostics.len();
                    tunnel.netem = self.netem(value);
                    self.diagnostics.iter_mut().skip(before).for_each(|it| it.scope = Scope::Config);
                }
                "dstport" => tunnel.dstport = self.number(value, 1..=65535),
                "local" => tunnel.local = self.address(value),
                "ttl" => tunnel.ttl = self.number(value, 1..=255),
                "mtu" => tunnel.mtu = self.number(value, MTU),
                "mac" => tunnel.mac = self.parsed(value),
                _ => {}
            }
        }
        tunnel
    }

    fn command(&mut self, node: &Node) -> CommandConfig {
        let mut command = CommandConfig { node: node.clone(), service: None, container: None, command: None };
        for (key, value) in self.entries(node, &COMMAND_KEYS) {
            match key.text.as_str() {
                "service" => command.service = self.name(value),
                "container" => command.container = self.name(value),
                "command" => {
                    command.command = match &value.value {
                        Value::List(items) if items.is_empty() => {
                            let empty =
                                Diagnostic::new(value.span, "a command needs a program, found an empty list");
                            self.diagnostics.push(empty);
                            None
                        }
                        Value::List(items) => Some(CommandText::Exec(
                            items.iter().filter_map(|it| self.text(it)).map(|it| it.value).collect(),
                        )),
                        _ => self.text(value).map(|it| CommandText::Shell(it.value)),
                    }
                }
                _ => {}
            }
        }
        command
    }
}
