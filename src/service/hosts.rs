//! A node's /etc/hosts.

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

/// The text of /etc/hosts of the node at `of` among `nodes`, where the links give `addresses`, in their order.
pub fn hosts(nodes: &[Node], of: usize, addresses: &[Address]) -> String {
    let mut text = String::from(
        "127.0.0.1 localhost\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters\n",
    );
    let Some(own) = nodes.get(of) else { return text };
    if !addresses.iter().any(|it| it.node == of && is_told(it)) {
        text += &line("127.0.1.1", &host_names(own));
    }
    let mut lines: Vec<String> = Vec::new();
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
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    text += &lines.concat();
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
