//! The `/etc/hosts` of nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::addr::IfName;
use crate::service::Node;

/// An address of a node's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the node in the list of nodes.
    pub node: usize,
    pub dev: IfName,
    pub addr: IpAddr,
}

/// The text of each node's `/etc/hosts`, with `addresses` in the order of links. Lines are
/// `ADDRESS SERVICE SHORT CONTAINER_NAME [HOSTNAME]`, so that a service's name finds all replicas, with the
/// interface in a comment. The service's own `extra_hosts` follow.
pub fn hosts(nodes: &[Node], addresses: &[Address]) -> Vec<String> {
    let told = told(nodes, addresses);
    let with_address: BTreeSet<usize> = addresses.iter().filter(|it| is_told(it)).map(|it| it.node).collect();
    (0..).zip(nodes).map(|(at, node)| of_node(node, with_address.contains(&at), &told)).collect()
}

/// The lines that all nodes have.
fn told(nodes: &[Node], addresses: &[Address]) -> String {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    for it in addresses.iter().filter(|it| is_told(it)) {
        let Some(node) = nodes.get(it.node) else { continue };
        let mut names = vec![node.service.name.clone(), node.short.clone(), node.name.clone()];
        let host = host_names(node);
        // The full name comes first, as the canonical one.
        match node.service.domainname {
            Some(_) => names.splice(0..0, host).for_each(drop),
            None => names.extend(host),
        }
        if seen.insert((it.node, it.addr)) {
            text += &format!("{} # {}\n", line(&it.addr.to_string(), &names).trim_end(), it.dev);
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

/// Whether an address is usable without an interface name; a link-local one is not.
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::service::{nodes, sample};

    fn addresses(all: &[(usize, &str, &str)]) -> Vec<Address> {
        let address = |(node, dev, addr): &(usize, &str, &str)| Address {
            node: *node,
            dev: dev.parse().unwrap(),
            addr: addr.parse().unwrap(),
        };
        all.iter().map(address).collect()
    }

    #[test]
    fn every_address_has_the_names_of_its_node() {
        let services = sample(
            "services:\n  a: {hostname: box, extra_hosts: ['up=192.0.2.1', 'up=2001:db8::1']}\n  w: {scale: 2}\n  c: {container_name: cc, hostname: c, domainname: example.org}\n",
        );
        let nodes = nodes(&services, "p");
        let addresses = addresses(&[
            (1, "eth0", "10.0.0.2"),
            (2, "eth0", "10.0.0.3"),
            (0, "eth0", "10.0.0.1"),
            (0, "eth1", "10.1.0.1"),
            (0, "eth2", "10.1.0.1"),
            (0, "eth1", "fd00::1"),
            (0, "eth1", "fe80::1"),
            (3, "eth0", "10.0.0.4"),
        ]);
        expect![[r#"
            127.0.0.1 localhost
            ::1 localhost ip6-localhost ip6-loopback
            ff02::1 ip6-allnodes
            ff02::2 ip6-allrouters
            10.0.0.2 w w-1 p-w-1 # eth0
            10.0.0.3 w w-2 p-w-2 # eth0
            10.0.0.1 a p-a-1 box # eth0
            10.1.0.1 a p-a-1 box # eth1
            fd00::1 a p-a-1 box # eth1
            10.0.0.4 c.example.org c cc # eth0
            192.0.2.1 up
            2001:db8::1 up
        "#]]
        .assert_eq(&hosts(&nodes, &addresses)[0]);
        let texts = hosts(&nodes, &addresses);
        assert!(texts.len() == 4 && texts[1] == texts[2]);
    }

    #[test]
    fn a_name_without_an_address_is_the_node_itself() {
        let services = sample("services:\n  a: {domainname: example.org}\n  b: {}\n");
        let nodes = nodes(&services, "p");
        expect![[r#"
            127.0.0.1 localhost
            ::1 localhost ip6-localhost ip6-loopback
            ff02::1 ip6-allnodes
            ff02::2 ip6-allrouters
            127.0.1.1 a.example.org a
            10.0.0.1 b p-b-1 # eth0
        "#]]
        .assert_eq(&hosts(&nodes, &addresses(&[(0, "eth0", "fe80::1"), (1, "eth0", "10.0.0.1")]))[0]);
        assert!(hosts(&nodes, &[])[1].contains("127.0.1.1 b\n"));
    }
}
