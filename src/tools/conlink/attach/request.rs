//! From the command line of `conlink attach` to the request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use crate::addr::{Cidr, IfName, Mac};
use crate::attach::{self, Attachment, Guest, Wiring};
use crate::device::{IpvlanMode, MacvlanMode, StackedKind, TunnelKind, TunnelOptions};
use crate::netem::Netem;
use crate::route::Route;
use crate::tools::conlink::attach::args::AttachArgs;
use crate::tools::conlink::attach::usage;
use crate::tools::conlink::guest::Found;
use crate::tools::dhcp::Dhcp;
use crate::tools::pipework::mac::of_text;

/// The largest identifier of a VXLAN: 24 bits.
const MAX_VNI: u32 = (1 << 24) - 1;

impl AttachArgs {
    /// The request, checked.
    pub(super) fn request(&self, guest: Guest) -> anyhow::Result<Attachment> {
        let usual = if self.ipoib.is_some() { "ib0" } else { "eth1" };
        let dev = match &self.dev {
            Some(it) => it.clone(),
            None => usual.parse()?,
        };
        let dev = dev.to_make().map_err(|it| usage(format!("--dev: {it}")))?;
        let wiring = self.wiring()?;
        for it in &self.ip {
            it.of_host().map_err(|error| usage(format!("--ip {it}: {error}")))?;
        }
        for (number, gateway) in self.gw.iter().enumerate() {
            Cidr::host(*gateway).of_host().map_err(|error| usage(format!("--gw {gateway}: {error}")))?;
            let same = |it: &IpAddr| it.is_ipv4() == gateway.is_ipv4();
            if self.gw.iter().take(number).any(same) {
                return Err(usage(format!("--gw {gateway}: there is already a gateway of that family")));
            }
            if !self.ip.iter().any(|it| same(&it.addr())) {
                return Err(usage(format!(
                    "--gw {gateway}: it needs an address of the same family (`--ip`)"
                )));
            }
        }
        let mut routes = Vec::new();
        for text in &self.route {
            let route = Route::parse(text).map_err(|it| usage(format!("--route \"{text}\": {it}")))?;
            if !route.kind.has_dev() {
                let message = "it uses no interface, so no interface can have it";
                return Err(usage(format!("--route \"{text}\": {message}")));
            }
            routes.push(route.with_default_dev(&dev));
        }
        let mac = match self.mac.as_deref() {
            None => None,
            Some(_) if matches!(wiring, Wiring::Stacked { kind: StackedKind::Ipoib { .. }, .. }) => {
                return Err(usage("--mac: an IP over InfiniBand interface has no MAC address of its own"));
            }
            Some(_) if matches!(wiring, Wiring::Stacked { kind: StackedKind::Ipvlan { .. }, .. }) => {
                return Err(usage("--mac: an ipvlan has the MAC address of its parent"));
            }
            Some(text) => Some(mac(text)?),
        };
        Ok(Attachment {
            guest,
            dev,
            wiring,
            mac,
            mtu: self.mtu,
            addrs: self.ip.clone(),
            gateways: self.gw.clone(),
            routes,
            netem: self.netem()?,
        })
    }

    /// The DHCP client to run.
    pub(super) fn dhcp(&self, guest: &Found) -> Option<Dhcp> {
        let client = self.dhcp?;
        let (hostname, guest) = (guest.own_name(), guest.name.clone());
        Some(Dhcp { client, guest, hostname, options: Vec::new(), keep: self.dhcp_renew })
    }

    fn netem(&self) -> anyhow::Result<Option<Netem>> {
        let text = match (&self.netem, &self.rate) {
            (None, None) => return Ok(None),
            (Some(netem), None) => netem.clone(),
            (None, Some(rate)) => format!("rate {rate}"),
            (Some(netem), Some(rate)) => format!("{netem} rate {rate}"),
        };
        let named = if self.netem.is_some() { "--netem" } else { "--rate" };
        Netem::parse(&text).map(Some).map_err(|it| usage(format!("{named} \"{text}\": {it}")))
    }

    fn wiring(&self) -> anyhow::Result<Wiring> {
        let vlan = self.vlan_tag;
        let wiring = if let Some(bridge) = &self.bridge {
            let outer = self.host_dev.clone();
            Wiring::Bridge { bridge: bridge.clone(), vlan, uplink: None, outer }
        } else if let Some(bridge) = &self.ovs {
            let outer = self.host_dev.clone();
            Wiring::Ovs { bridge: bridge.clone(), vlan, outer, ids: BTreeMap::new() }
        } else if let Some(text) = &self.macvlan {
            let (parent, mode) = with_mode("--macvlan", text, &MacvlanMode::NAMES, MacvlanMode::Bridge)?;
            Wiring::Stacked { parent, vlan, kind: StackedKind::Macvlan { mode: Some(mode) } }
        } else if let Some(text) = &self.ipvlan {
            let (parent, mode) = with_mode("--ipvlan", text, &IpvlanMode::NAMES, IpvlanMode::L2)?;
            Wiring::Stacked { parent, vlan, kind: StackedKind::Ipvlan { mode: Some(mode), flag: None } }
        } else if let Some(text) = &self.moved {
            Wiring::Moved(match text.strip_prefix("mac:") {
                Some(mac) => attach::interface_with(parsed("--move", mac)?)?,
                None => parsed("--move", text)?,
            })
        } else if let Some(text) = &self.vlan {
            let (parent, id) = text.rsplit_once('.').ok_or_else(|| expected("--vlan", text, "NAME.ID"))?;
            let id = id.parse().ok().filter(|it| (1..=4094).contains(it));
            let id = id.ok_or_else(|| expected("--vlan", text, "NAME.ID with an ID from 1 to 4094"))?;
            Wiring::Stacked { parent: parsed("--vlan", parent)?, vlan: None, kind: StackedKind::Vlan { id } }
        } else if let Some(text) = &self.ipoib {
            let (parent, pkey) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
            let pkey = pkey.map(|it| pkey_of(it).ok_or_else(|| expected("--ipoib", text, "NAME:PKEY")));
            let kind = StackedKind::Ipoib { pkey: pkey.transpose()? };
            Wiring::Stacked { parent: parsed("--ipoib", parent)?, vlan: None, kind }
        } else if let Some(id) = &self.patch {
            Wiring::Patch(id.clone())
        } else if let Some(text) = &self.vxlan {
            Wiring::Tunnel(tunnel(text)?)
        } else {
            Wiring::Dummy
        };
        if vlan.is_some() && !takes_vlan(&wiring) {
            return Err(usage("--vlan-tag: it is for --bridge, --ovs, --macvlan and --ipvlan"));
        }
        if self.host_dev.is_some() && !matches!(wiring, Wiring::Bridge { .. } | Wiring::Ovs { .. }) {
            return Err(usage("--host-dev: it is for --bridge and --ovs"));
        }
        Ok(wiring)
    }
}

fn takes_vlan(wiring: &Wiring) -> bool {
    match wiring {
        Wiring::Bridge { .. } | Wiring::Ovs { .. } => true,
        Wiring::Stacked { kind, .. } => {
            matches!(kind, StackedKind::Macvlan { .. } | StackedKind::Ipvlan { .. })
        }
        _ => false,
    }
}

fn expected(option: &str, text: &str, what: &str) -> anyhow::Error {
    usage(format!("{option} {text}: expected {what}"))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(option: &str, text: &str) -> anyhow::Result<T> {
    text.parse().map_err(|it| usage(format!("{option} {text}: {it}")))
}

/// `NAME[:MODE]`.
fn with_mode<T: Copy>(
    option: &str,
    text: &str,
    modes: &[(&str, T)],
    usual: T,
) -> anyhow::Result<(IfName, T)> {
    let Some((name, mode)) = text.split_once(':') else { return Ok((parsed(option, text)?, usual)) };
    let known = modes.iter().find(|(it, _)| *it == mode).map(|(_, it)| *it);
    let names: Vec<&str> = modes.iter().map(|(it, _)| *it).collect();
    let known = known
        .ok_or_else(|| usage(format!("{option} {text}: unknown mode; expected {}", names.join(", "))))?;
    Ok((parsed(option, name)?, known))
}

/// A partition key, decimal or hexadecimal.
fn pkey_of(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `VNI@REMOTE`.
fn tunnel(text: &str) -> anyhow::Result<TunnelOptions> {
    let bad = || expected("--vxlan", text, "VNI@ADDRESS, such as `42@192.0.2.1`");
    let (vni, remote) = text.split_once('@').ok_or_else(bad)?;
    let vni = vni.parse().ok().filter(|it| (1..=MAX_VNI).contains(it)).ok_or_else(bad)?;
    let kind = TunnelKind::Vxlan;
    Ok(TunnelOptions {
        kind,
        vni,
        remote: remote.parse().map_err(|_| bad())?,
        local: None,
        dstport: kind.default_port(),
        ttl: 0,
    })
}

/// A MAC address, or `U:TEXT`.
fn mac(text: &str) -> anyhow::Result<Mac> {
    match text.strip_prefix("U:") {
        Some(text) => Ok(of_text(text)?),
        None => parsed("--mac", text),
    }
}
