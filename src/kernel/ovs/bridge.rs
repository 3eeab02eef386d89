//! Bridges: reading and changing them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::db::{
    DATABASE, insert, is, map_of, members, mutate, new_row, number, row, select, set_of, text, update, uuid,
    value,
};
use super::rpc::SwitchError;
use super::tables::{BRIDGE, INTERFACE, PORT, Tables};
use super::{Datapath, INDEX, MARK, Ovs, mark_of, no_bridge, set_mark};
use crate::addr::IfName;
use crate::device::BridgeOptions;
use crate::kernel::netlink::Error;

/// A bridge in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRecord {
    /// The mark; None if another program made it.
    pub mark: Option<String>,
    /// None for an unknown datapath.
    pub datapath: Option<Datapath>,
    /// The options, as for [`Ovs::set_bridge`].
    pub options: BridgeOptions,
    /// Why the switch could not make the bridge's own interface.
    pub error: Option<String>,
    /// Its ports, without its own interface.
    pub ports: BTreeMap<IfName, OvsPort>,
}

/// A port in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsPort {
    pub mark: Option<String>,
    /// Why the switch does not use the interface; usually it does not exist.
    pub error: Option<String>,
}

impl Ovs {
    /// All bridges and ports, ours and others.
    pub fn dump(&mut self) -> Result<BTreeMap<String, BridgeRecord>, Error> {
        self.attempt(
            || "dump bridges of Open vSwitch".to_owned(),
            |it| {
                it.catch_up()?;
                Ok(decode(&it.tables))
            },
        )
    }

    /// The interface indices with which our ports were made, by name, as of the last [`Ovs::dump`].
    pub fn indices(&self) -> impl Iterator<Item = (IfName, u32)> {
        self.tables.rows(PORT).filter_map(|(_, row)| {
            let index = value(row.get("external_ids")?, INDEX)?.parse().ok()?;
            Some((row["name"].as_str()?.parse().ok()?, index))
        })
    }

    /// `ovs-vsctl add-br NAME`. If the bridge already exists and is ours, it gets this mark.
    pub fn add_bridge(&mut self, name: &IfName, mark: &str) -> Result<(), Error> {
        self.attempt(|| format!("add Open vSwitch bridge {name}"), |it| it.try_add_bridge(name, mark))
    }

    fn try_add_bridge(&mut self, name: &IfName, mark: &str) -> Result<(), SwitchError> {
        let name = name.as_str();
        let found = self.transact(vec![select("Bridge", is("name", name), &["_uuid", "external_ids"])])?;
        let (added, bridge) = match found.rows(0).first() {
            Some(bridge) => {
                if mark_of(bridge).is_none() {
                    return Err(SwitchError::Refused(
                        "it already exists and was not made by conlink".to_owned(),
                    ));
                }
                let changed = set_mark("Bridge", name, mark);
                (false, self.commit(changed, 1).map(|_| None)?)
            }
            None => {
                let bridge = json!({
                    "name": name, "datapath_type": self.datapath.name(), "fail_mode": "standalone",
                    "external_ids": map_of(&[(MARK, mark)]), "ports": new_row("port"),
                });
                let inserted = self.commit(
                    vec![
                        insert("Bridge", bridge, "bridge"),
                        insert("Port", json!({"name": name, "interfaces": new_row("interface")}), "port"),
                        insert("Interface", json!({"name": name, "type": "internal"}), "interface"),
                        mutate(DATABASE, json!([]), json!([["bridges", "insert", new_row("bridge")]])),
                    ],
                    1,
                )?;
                (true, inserted.inserted(0).cloned())
            }
        };
        let Some(error) = self.device_error(name)? else {
            return Ok(());
        };
        if added && let Some(bridge) = bridge {
            self.commit(vec![forget_bridge(&bridge)], 1)?;
        }
        Err(SwitchError::Device(error))
    }

    /// `ovs-vsctl set bridge NAME …`. Options that are not given do not change.
    ///
    /// Any `group_fwd_mask` other than 0 forwards all link-local groups (`forward-bpdu`), because Open vSwitch does not
    /// distinguish them. `vlan_filtering` has no effect: Open vSwitch always handles VLAN tags.
    pub fn set_bridge(&mut self, name: &IfName, options: &BridgeOptions) -> Result<(), Error> {
        let what = || format!("set Open vSwitch bridge {name}");
        self.attempt(what, |it| {
            let found = it.transact(vec![select("Bridge", is("name", name.as_str()), &["_uuid"])])?;
            if found.rows(0).is_empty() {
                return Err(no_bridge(name));
            }
            it.commit(set_options(name.as_str(), options), 1).map(drop)
        })
    }

    /// `ovs-vsctl del-br NAME` with its ports; their interfaces stay. Succeeds if it does not exist.
    pub fn del_bridge(&mut self, name: &IfName) -> Result<(), Error> {
        self.attempt(
            || format!("del Open vSwitch bridge {name}"),
            |it| {
                let found = it.transact(vec![select("Bridge", is("name", name.as_str()), &["_uuid"])])?;
                match found.column(0, "_uuid") {
                    Some(bridge) => it.commit(vec![forget_bridge(bridge)], 1).map(drop),
                    None => Ok(()),
                }
            },
        )
    }
}

fn forget_bridge(bridge: &Value) -> Value {
    mutate(DATABASE, json!([]), json!([["bridges", "delete", bridge]]))
}

/// `other_config` of a bridge.
const FORWARD_LINK_LOCAL: &str = "forward-bpdu";
const AGEING_TIME: &str = "mac-aging-time";
const FORWARD_DELAY: &str = "stp-forward-delay";

fn set_options(name: &str, options: &BridgeOptions) -> Vec<Value> {
    let BridgeOptions {
        stp,
        vlan_filtering: _,
        mcast_snooping,
        group_fwd_mask,
        mtu,
        ageing_time,
        forward_delay,
    } = options;
    let columns = row([
        ("stp_enable", stp.map(Value::from)),
        ("mcast_snooping_enable", mcast_snooping.map(Value::from)),
    ]);
    let mut changes = Vec::new();
    if columns.as_object().is_some_and(|it| !it.is_empty()) {
        changes.push(update("Bridge", is("name", name), columns));
    }
    for (key, value) in [
        (FORWARD_LINK_LOCAL, group_fwd_mask.map(|it| (it != 0).to_string())),
        (AGEING_TIME, ageing_time.map(|it| it.to_string())),
        (FORWARD_DELAY, forward_delay.map(|it| it.to_string())),
    ] {
        if let Some(value) = value {
            let delete = json!(["other_config", "delete", set_of(vec![key.into()])]);
            let insert = json!(["other_config", "insert", map_of(&[(key, &value)])]);
            changes.push(mutate("Bridge", is("name", name), json!([delete, insert])));
        }
    }
    if let Some(mtu) = mtu {
        changes.push(update("Interface", is("name", name), json!({"mtu_request": mtu})));
    }
    changes
}

/// The bridges in the copy of the database.
fn decode(tables: &Tables) -> BTreeMap<String, BridgeRecord> {
    let get = |table: &str, reference: &Value| tables.row(table, uuid(reference)?);
    let mut bridges = BTreeMap::new();
    for (_, bridge) in tables.rows(BRIDGE) {
        let Some(name) = bridge["name"].as_str() else { continue };
        let other = |key| value(&bridge["other_config"], key);
        let mut found = BridgeRecord {
            mark: mark_of(bridge).map(str::to_owned),
            datapath: bridge["datapath_type"].as_str().and_then(Datapath::named),
            options: BridgeOptions {
                stp: bridge["stp_enable"].as_bool(),
                mcast_snooping: bridge["mcast_snooping_enable"].as_bool(),
                ageing_time: other(AGEING_TIME).and_then(|it| it.parse().ok()),
                forward_delay: other(FORWARD_DELAY).and_then(|it| it.parse().ok()),
                group_fwd_mask: other(FORWARD_LINK_LOCAL).map(|it| if it == "true" { u16::MAX } else { 0 }),
                ..BridgeOptions::default()
            },
            error: None,
            ports: BTreeMap::new(),
        };
        for port in members(&bridge["ports"]).into_iter().filter_map(|it| get(PORT, it)) {
            // A bond has several interfaces.
            let interfaces = members(&port["interfaces"]).into_iter().filter_map(|it| get(INTERFACE, it));
            let interfaces: Vec<&Value> = interfaces.collect();
            let error = interfaces.iter().find_map(|it| text(&it["error"])).map(str::to_owned);
            let port_name = port["name"].as_str().unwrap_or_default();
            if port_name == name {
                found.error = error;
                let mtu = interfaces.iter().find_map(|it| number(&it["mtu_request"]));
                found.options.mtu = mtu.and_then(|it| it.try_into().ok());
            } else if let Ok(port_name) = port_name.parse() {
                // Names that are invalid for interfaces belong to other programs, for example to tunnels.
                found.ports.insert(port_name, OvsPort { mark: mark_of(port).map(str::to_owned), error });
            }
        }
        bridges.insert(name.to_owned(), found);
    }
    bridges
}
