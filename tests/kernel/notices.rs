//! Kernel notifications: changes by other programs are reported, and a look drops the reports before it.

use std::collections::BTreeMap;
use std::fs::File;

use conlink::container::ContainerId;
use conlink::kernel::netns;
use conlink::plan::{Change, Look, Names, News, Ns, Step, When};
use conlink::route::Route;

use crate::kernel::{Lab, MARK, add_veth, container, name, set, up};
use crate::support::{inside, ip, skip, succeeds};

#[test]
fn changes_by_other_programs_are_reported_unless_they_were_read() {
    let Some(mut lab) = Lab::new("notices", &[]) else { return };
    drop(lab.kernel.listen().unwrap());
    let netns = netns::anonymous().unwrap();
    let inode = lab.kernel.attach_netns(&ContainerId::new("a"), netns.try_clone().unwrap()).unwrap();
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    lab.apply(set(&Ns::Bridges, "x", up()));
    lab.apply(set(&container("a"), "eth0", up()));
    lab.apply(Step::AddAddr { ns: container("a"), dev: name("eth0"), cidr: "10.0.0.1/24".parse().unwrap() });
    let looks = BTreeMap::from([(Ns::Bridges, Look::names([name("x")])), (container("a"), Look::inside())]);
    let look = |lab: &mut Lab| drop(lab.kernel.observe(&looks).unwrap());
    look(&mut lab);
    // Carriers are told of some time later, and are nobody's change.
    assert_eq!(lab.kernel.news(), News::default());
    type Change<'a> = (&'a File, &'a str);
    let bridges = lab.bridges.try_clone().unwrap();
    let changes: [Change; 9] = [
        (&netns, "link set eth0 down"),
        (&netns, "link set eth0 up"),
        (&netns, "addr flush dev eth0"),
        (&netns, "addr add 10.0.0.2/24 dev eth0"),
        (&netns, "link set eth0 mtu 1400"),
        (&netns, "link set eth0 address 02:00:00:00:00:07"),
        (&netns, "link set eth0 alias somebody"),
        (&bridges, "link set x down"),
        (&bridges, "link del x"),
    ];
    for (netns, change) in changes {
        ip(netns, change);
        // Who only compares leaves the news to others.
        lab.kernel.keeping_notices(|it| it.observe(&looks)).unwrap();
        let news = lab.kernel.news();
        match change.contains(" x") {
            false => assert!(news.inside.contains(&inode), "{change}: {news:?}"),
            true => {
                let Names { changed, deleted, .. } = &news.bridges;
                assert!(changed.contains("x") || deleted.contains("x"), "{change}: {news:?}");
            }
        }
        look(&mut lab);
        assert_eq!(lab.kernel.news(), News::default(), "after a look at {change}");
    }
}

#[test]
fn routes_of_others_are_reported_only_at_our_destinations() {
    let Some(mut lab) = Lab::new("notices of routes", &[]) else { return };
    drop(lab.kernel.listen().unwrap());
    let netns = netns::anonymous().unwrap();
    let inode = lab.kernel.attach_netns(&ContainerId::new("a"), netns.try_clone().unwrap()).unwrap();
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    lab.apply(set(&container("a"), "eth0", Change { mark: Some(MARK.into()), ..up() }));
    lab.apply(Step::AddAddr { ns: container("a"), dev: name("eth0"), cidr: "10.0.0.1/24".parse().unwrap() });
    let route = Route::parse("10.9.0.0/16 via 10.0.0.2 dev eth0").unwrap();
    lab.apply(Step::SetRoute { ns: container("a"), route, replace: false });
    let look = |lab: &mut Lab| {
        lab.kernel.observe(&BTreeMap::from([(container("a"), Look::inside())])).unwrap();
        let names = Look::names([name("x")]);
        lab.kernel.observe(&BTreeMap::from([(Ns::Bridges, names)])).unwrap();
    };
    look(&mut lab);
    assert_eq!(lab.kernel.news(), News::default());
    for _ in 0..2 {
        ip(&netns, "route replace 10.8.0.0/16 via 10.0.0.2 proto bird");
    }
    ip(&netns, "route replace default via 10.0.0.2 proto bird");
    assert_eq!(lab.kernel.news(), News::default());
    for change in [
        "route replace 10.9.0.0/16 via 10.0.0.3 proto bird",
        "route replace 10.9.0.0/16 via 10.0.0.2 proto 194",
        "route del 10.9.0.0/16",
    ] {
        ip(&netns, change);
        assert!(lab.kernel.news().inside.contains(&inode), "{change}");
    }
}

#[test]
fn while_routes_of_others_are_looked_at_they_are_heard_where_wanted_ones_lead() {
    let Some(mut lab) = Lab::new("notices of others", &[]) else { return };
    drop(lab.kernel.listen().unwrap());
    let netns = netns::anonymous().unwrap();
    let inode = lab.kernel.attach_netns(&ContainerId::new("a"), netns.try_clone().unwrap()).unwrap();
    lab.apply(add_veth(&container("a"), "eth0", &Ns::Bridges, "x"));
    lab.apply(set(&container("a"), "eth0", Change { mark: Some(MARK.into()), ..up() }));
    lab.apply(set(&Ns::Bridges, "x", up()));
    lab.apply(Step::AddAddr { ns: container("a"), dev: name("eth0"), cidr: "10.0.0.1/24".parse().unwrap() });
    let look = |lab: &mut Lab, routes_of_others: bool| {
        let destinations = ["10.9.0.0/16".parse().unwrap()].into();
        let look = Look { routes_of_others, destinations, ..Look::inside() };
        lab.kernel.observe(&BTreeMap::from([(container("a"), look)])).unwrap();
        let names = Look::names([name("x")]);
        lab.kernel.observe(&BTreeMap::from([(Ns::Bridges, names)])).unwrap();
    };
    for (others, change, is_heard) in [
        (false, "route add 10.9.0.0/16 via 10.0.0.2", false),
        (false, "route del 10.9.0.0/16", false),
        (true, "route add 10.8.0.0/16 via 10.0.0.2", false),
        (true, "route add 10.9.0.0/16 via 10.0.0.2", true),
        (true, "route del 10.9.0.0/16", true),
        (false, "route add 10.9.0.0/16 via 10.0.0.2", false),
    ] {
        look(&mut lab, others);
        assert_eq!(lab.kernel.news(), News::default());
        ip(&netns, change);
        assert_eq!(lab.kernel.news().inside.contains(&inode), is_heard, "{others}: {change}");
    }
}

#[test]
fn a_flood_of_notices_is_told_as_such() {
    let Some(mut lab) = Lab::new("flood", &[]) else { return };
    drop(lab.kernel.listen().unwrap());
    // More than there is room for.
    let mut batch = "link add v0 type veth peer name v1\n".to_owned();
    for it in 0..6000 {
        batch += &format!("link set v0 mtu {}\n", 1400 + it % 2);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    ip(&lab.bridges, &format!("-b {}", file.path().display()));
    assert!(lab.kernel.news().lost);
    assert_eq!(lab.kernel.news(), News::default());
}

#[test]
fn changed_interface_options_and_forwarding_are_reported() {
    let Some(mut lab) = Lab::new("notices of options", &[]) else { return };
    drop(lab.kernel.listen().unwrap());
    let bridges = lab.bridges.try_clone().unwrap();
    lab.apply(add_veth(&Ns::Bridges, "x", &Ns::Bridges, "y"));
    let look = |lab: &mut Lab| {
        let look = Look { nat: When::Always, ..Look::all() };
        lab.kernel.observe(&BTreeMap::from([(Ns::Bridges, look)])).unwrap();
    };
    look(&mut lab);
    assert_eq!(lab.kernel.news(), News::default());
    inside(
        &bridges,
        "sh",
        &["-c", "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/ip_forward"],
    );
    assert!(lab.kernel.news().bridges.rules);
    look(&mut lab);
    // A setting of one interface is not about the namespace.
    inside(&bridges, "sh", &["-c", "echo 1 >/proc/sys/net/ipv4/conf/y/forwarding"]);
    assert!(!lab.kernel.news().bridges.rules);
    for (kind, before, after) in [
        ("vxlan", "id 5 dstport 9 remote 192.0.2.1", "remote 192.0.2.2"),
        ("macvlan", "mode bridge", "mode private"),
        ("ipvlan", "mode l2", "mode l3"),
    ] {
        let on = if kind == "vxlan" { "" } else { "link x" };
        if !succeeds(&bridges, "ip", &format!("link add {on} name t0 type {kind} {before}")) {
            skip(kind, "the kernel has no such type of interface");
            continue;
        }
        // The kernel tells of options that change while the interface is up.
        ip(&bridges, "link set t0 up");
        look(&mut lab);
        assert_eq!(lab.kernel.news(), News::default(), "{kind}");
        ip(&bridges, &format!("link set t0 type {kind} {after}"));
        let news = lab.kernel.news();
        assert!(news.bridges.changed.contains("t0"), "{kind}: {news:?}");
        ip(&bridges, "link del t0");
        look(&mut lab);
    }
}
