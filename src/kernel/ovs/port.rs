//! Adding and removing ports.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::db::{includes, insert, is, map_of, mutate, new_row, select, set_of};
use super::rpc::SwitchError;
use super::{INDEX, MARK, Ovs, mark_of, no_bridge, set_mark};
use crate::addr::IfName;
use crate::kernel::netlink::Error;

/// A port to be added to a bridge.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    pub bridge: &'a IfName,
    pub port: &'a IfName,
    pub mark: &'a str,
    /// The index of its interface, for [`Ovs::indices`].
    pub index: Option<u32>,
    /// The VLAN of its untagged frames, if it is made.
    pub tag: Option<u16>,
    /// More `external_ids`, if it is made.
    pub ids: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Join<'a> {
    /// A port without further settings.
    pub fn new(bridge: &'a IfName, port: &'a IfName, mark: &'a str) -> Self {
        Self { bridge, port, mark, index: None, tag: None, ids: None }
    }
}

impl Ovs {
    /// `ovs-vsctl add-port BRIDGE PORT`. An existing port gets this mark; a port of ours on another bridge is moved.
    pub fn add_port(&mut self, join: &Join<'_>) -> Result<(), Error> {
        self.add_ports(std::slice::from_ref(join))?.into_values().next().map_or(Ok(()), Err)
    }

    /// Adds many ports in one transaction, which takes hardly longer than one port. Returns the failed ones, which are
    /// not added; the others are.
    pub fn add_ports(&mut self, ports: &[Join<'_>]) -> Result<BTreeMap<IfName, Error>, Error> {
        if ports.is_empty() {
            return Ok(BTreeMap::new());
        }
        let what = |Join { bridge, port, .. }: &Join<'_>| format!("add port {port} to bridge {bridge}");
        let whole = || match ports {
            [one] => what(one),
            _ => format!("add {} ports", ports.len()),
        };
        let failed = self.attempt(whole, |it| match it.try_add_ports(ports) {
            // One port that the database refuses makes the whole transaction fail.
            Err(SwitchError::Refused(_)) if ports.len() > 1 => {
                let mut failed = Vec::new();
                for (at, one) in ports.iter().enumerate() {
                    match it.try_add_ports(std::slice::from_ref(one)) {
                        Ok(more) => failed.extend(more.into_iter().map(|(_, failure)| (at, failure))),
                        Err(refused @ SwitchError::Refused(_)) => failed.push((at, refused)),
                        Err(other) => return Err(other),
                    }
                }
                Ok(failed)
            }
            result => result,
        })?;
        let failed = failed.into_iter().filter_map(|(at, failure)| {
            let one = ports.get(at)?;
            Some((one.port.clone(), self.error(what(one), failure)))
        });
        Ok(failed.collect())
    }

    /// Returns the failed ports by their positions in the list.
    fn try_add_ports(&mut self, ports: &[Join<'_>]) -> Result<Vec<(usize, SwitchError)>, SwitchError> {
        let bridges: BTreeSet<&IfName> = ports.iter().map(|it| it.bridge).collect();
        let mut look: Vec<Value> = Vec::new();
        look.extend(bridges.iter().map(|it| select("Bridge", is("name", it.as_str()), &["_uuid"])));
        look.extend(
            ports.iter().map(|it| select("Port", is("name", it.port.as_str()), &["_uuid", "external_ids"])),
        );
        let found = self.transact(look)?;
        let uuids: BTreeMap<&IfName, &Value> = bridges
            .iter()
            .enumerate()
            .filter_map(|(at, it)| Some((*it, found.column(at, "_uuid")?)))
            .collect();
        let mut failed = Vec::new();
        let mut changes = Vec::new();
        let mut joins: BTreeMap<&IfName, Vec<Value>> = BTreeMap::new();
        // The positions of the new ports, and of the operations that insert them.
        let mut inserts = BTreeMap::new();
        for (at, Join { bridge, port, mark, index, tag, ids }) in ports.iter().enumerate() {
            let Some(uuid_of_bridge) = uuids.get(bridge) else {
                failed.push((at, no_bridge(bridge)));
                continue;
            };
            let name = port.as_str();
            if let Some(there) = found.rows(bridges.len() + at).first() {
                match self.rejoin(uuid_of_bridge, there)? {
                    Rejoin::Stay => {}
                    Rejoin::Move(leave) => {
                        changes.push(leave);
                        joins.entry(bridge).or_default().push(there["_uuid"].clone());
                    }
                    Rejoin::Refuse => {
                        let message = "it is a port of another bridge and was not made by conlink";
                        failed.push((at, SwitchError::Refused(message.to_owned())));
                        continue;
                    }
                }
                changes.extend(set_mark("Port", name, mark));
                continue;
            }
            let (row, interface) = (format!("port{at}"), format!("interface{at}"));
            joins.entry(bridge).or_default().push(new_row(&row));
            inserts.insert(at, changes.len());
            let index = index.map(|it| it.to_string());
            let mut all: Vec<(&str, &str)> =
                [(MARK, *mark)].into_iter().chain(index.as_deref().map(|it| (INDEX, it))).collect();
            all.extend(ids.iter().flat_map(|it| it.iter()).map(|(key, it)| (key.as_str(), it.as_str())));
            let mut columns = json!({
                "name": name, "interfaces": new_row(&interface), "external_ids": map_of(&all),
            });
            if let Some(tag) = tag {
                columns["tag"] = json!(tag);
            }
            changes.push(insert("Port", columns, &row));
            changes.push(insert("Interface", json!({"name": name}), &interface));
        }
        for (bridge, rows) in joins {
            let join = json!([["ports", "insert", set_of(rows)]]);
            changes.push(mutate("Bridge", is("name", bridge.as_str()), join));
        }
        if failed.len() == ports.len() {
            return Ok(failed);
        }
        let done = self.commit(changes, ports.len())?;
        let asked: Vec<(usize, &IfName)> = ports
            .iter()
            .enumerate()
            .filter(|(at, _)| !failed.iter().any(|it| it.0 == *at))
            .map(|(at, it)| (at, it.port))
            .collect();
        let names: Vec<&str> = asked.iter().map(|it| it.1.as_str()).collect();
        let mut leaves = Vec::new();
        for ((at, _), error) in asked.iter().zip(self.device_errors(&names)?) {
            let Some(error) = error else { continue };
            failed.push((*at, SwitchError::Device(error)));
            if let Some(port) = inserts.get(at).and_then(|it| done.inserted(*it)) {
                leaves.push(leave_all(port));
            }
        }
        if !leaves.is_empty() {
            self.commit(leaves, ports.len())?;
        }
        Ok(failed)
    }

    /// How an existing port gets onto this bridge.
    fn rejoin(&mut self, bridge: &Value, port: &Value) -> Result<Rejoin, SwitchError> {
        let found = self.transact(vec![select("Bridge", includes("ports", &port["_uuid"]), &["_uuid"])])?;
        Ok(match found.column(0, "_uuid") {
            Some(on) if on == bridge => Rejoin::Stay,
            _ if mark_of(port).is_some() => Rejoin::Move(leave_all(&port["_uuid"])),
            _ => Rejoin::Refuse,
        })
    }

    /// `ovs-vsctl del-port BRIDGE PORT`; the interface stays. Succeeds if the bridge has no such port.
    pub fn del_port(&mut self, bridge: &IfName, port: &IfName) -> Result<(), Error> {
        self.del_ports(&[(bridge, port)])
    }

    /// Removes many ports in one transaction.
    pub fn del_ports(&mut self, ports: &[(&IfName, &IfName)]) -> Result<(), Error> {
        let what = || match ports {
            [(bridge, port)] => format!("del port {port} of bridge {bridge}"),
            _ => format!("del {} ports", ports.len()),
        };
        self.attempt(what, |it| {
            let look = ports.iter().map(|it| select("Port", is("name", it.1.as_str()), &["_uuid"])).collect();
            let found = it.transact(look)?;
            let mut gone: BTreeMap<&IfName, Vec<Value>> = BTreeMap::new();
            for (at, (bridge, port)) in ports.iter().enumerate() {
                // A bridge's own interface is removed with the bridge.
                if let Some(row) = found.column(at, "_uuid")
                    && bridge != port
                {
                    gone.entry(bridge).or_default().push(row.clone());
                }
            }
            let changes = gone.into_iter().map(|(bridge, rows)| {
                mutate("Bridge", is("name", bridge.as_str()), json!([["ports", "delete", set_of(rows)]]))
            });
            let changes: Vec<Value> = changes.collect();
            if changes.is_empty() { Ok(()) } else { it.commit(changes, ports.len()).map(drop) }
        })
    }
}

enum Rejoin {
    Stay,
    Move(Value),
    Refuse,
}

/// Removes a port from its bridge. The database deletes rows without references.
fn leave_all(port: &Value) -> Value {
    mutate("Bridge", includes("ports", port), json!([["ports", "delete", port]]))
}
