//! A node's /etc/hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::addr::IfName;
use crate::service::Node;

/// An address that a link gives to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The node, by its place among all nodes.
    pub node: usize,
    pub dev: IfName,
    pub addr: IpAddr,
}

/// The text of each node's /etc/hosts, where the links give `addresses`, in their order.
pub fn hosts(nodes: &[Node], addresses: &[Address]) -> Vec<String> {
    let told = told(nodes, addresses);
    let with_address: BTreeSet<usize> = addresses.iter().filter(|it| is_told(it)).map(|it| it.node).collect();
    (0..).zip(nodes).map(|(at, node)| of_node(node, with_address.contains(&at), &told)).collect()
}

/// The lines that are in every node's.
fn told(nodes: &[Node], addresses: &[Address]) -> String {
    let mut text = String::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for it in addresses.iter().filter(|it| is_told(it)) {
        let Some(node) = nodes.get(it.node) else { continue };
        let mut names = vec![node.service.name.clone(), node.short.clone(), node.name.clone()];
        let host = host_names(node);
        // What has a domain is to be found by its full name, which is the first.
        match node.service.domainname {
            Some(_) => names.splice(0..0, host).for_each(drop),
            None => names.extend(host),
        }
        let line = line(&it.addr.to_string(), &names);
        if seen.insert(line.clone()) {
            text += &line;
        }
    }
    text
}

fn of_node(own: &Node, has_address: bool, told: &str) -> String {
    let mut text = String::from(
        "127.0.0.1 localhost\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n",
    );
    if !has_address {
        text += &line("127.0.1.1", &host_names(own));
    }
    text += told;
    for (name, addr) in &own.service.extra_hosts {
        text += &line(&addr.to_string(), std::slice::from_ref(name));
    }
    text
}

/// An address that means the same everywhere: one of the link itself needs its interface.
fn is_told(it: &Address) -> bool {
    match it.addr {
        IpAddr::V4(_) => true,
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
    }
}

/// `hostname.domainname hostname`.
fn host_names(node: &Node) -> Vec<String> {
    let full = node.service.domainname.as_ref().map(|it| format!("{}.{it}", node.hostname));
    full.into_iter().chain([node.hostname.clone()]).collect()
}

fn line(addr: &str, names: &[String]) -> String {
    let mut text = addr.to_owned();
    for (at, name) in names.iter().enumerate() {
        if !names.iter().take(at).any(|it| it == name) {
            text.push(' ');
            text.push_str(name);
        }
    }
    text + "\n"
}
