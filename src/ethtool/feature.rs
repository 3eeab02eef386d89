//! Offloads by the names of `ethtool(8)` and of the kernel.

use std::fmt;

/// What `ethtool --offload` switches: either one of `ethtool`'s own names, which stands for one or several features of
/// the kernel, or a feature by the kernel's name.
///
/// Invariant: of `rx`, `rx-checksumming` and `rx-checksum`, which are the same, it holds the shortest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feature(&'static str);

/// A name of `ethtool`'s own: short, long, and the kernel features that it stands for, with at most one `*`.
type Legacy = (&'static str, &'static str, &'static str);

const LEGACY: [Legacy; 12] = [
    ("rx", "rx-checksumming", "rx-checksum"),
    ("tx", "tx-checksumming", "tx-checksum-*"),
    ("sg", "scatter-gather", "tx-scatter-gather*"),
    ("tso", "tcp-segmentation-offload", "tx-tcp*-segmentation"),
    ("ufo", "udp-fragmentation-offload", "tx-udp-fragmentation"),
    ("gso", "generic-segmentation-offload", "tx-generic-segmentation"),
    ("gro", "generic-receive-offload", "rx-gro"),
    ("lro", "large-receive-offload", "rx-lro"),
    ("rxvlan", "rx-vlan-offload", "rx-vlan-hw-parse"),
    ("txvlan", "tx-vlan-offload", "tx-vlan-hw-insert"),
    ("ntuple", "ntuple-filters", "rx-ntuple-filter"),
    ("rxhash", "receive-hashing", "rx-hashing"),
];

/// `netdev_features_strings` of the kernel's `net/ethtool/common.c`, without those that are in [`LEGACY`].
const KERNEL: [&str; 55] = [
    "tx-scatter-gather",
    "tx-scatter-gather-fraglist",
    "tx-checksum-ipv4",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv6",
    "tx-checksum-fcoe-crc",
    "tx-checksum-sctp",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "highdma",
    "rx-vlan-filter",
    "tx-vlan-stag-hw-insert",
    "rx-vlan-stag-hw-parse",
    "rx-vlan-stag-filter",
    "vlan-challenged",
    "tx-lockless",
    "netns-local",
    "rx-gro-hw",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
    "tx-gso-robust",
    "tx-fcoe-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gso-partial",
    "tx-tunnel-remcsum-segmentation",
    "tx-sctp-segmentation",
    "tx-esp-segmentation",
    "tx-udp-segmentation",
    "tx-gso-list",
    "fcoe-mtu",
    "tx-nocache-copy",
    "loopback",
    "rx-fcs",
    "rx-all",
    "l2-fwd-offload",
    "hw-tc-offload",
    "esp-hw-offload",
    "esp-tx-csum-hw-offload",
    "rx-udp_tunnel-port-offload",
    "tls-hw-record",
    "tls-hw-tx-offload",
    "tls-hw-rx-offload",
    "macsec-hw-offload",
    "hsr-tag-ins-offload",
    "hsr-tag-rm-offload",
    "hsr-fwd-offload",
    "hsr-dup-offload",
];

impl Feature {
    /// Transmit checksums, all of them: what `--offload tx off` is about.
    pub const TX: Feature = Feature("tx");

    /// The feature of that name; None where there is none.
    pub fn named(text: &str) -> Option<Self> {
        let legacy = LEGACY.iter().find(|(short, long, kernel)| [short, long, kernel].contains(&&text));
        match legacy {
            // A pattern is no name.
            Some((_, _, kernel)) if *kernel == text && text.contains('*') => None,
            Some((short, _, _)) => Some(Self(short)),
            None => KERNEL.iter().find(|it| **it == text).map(|it| Self(it)),
        }
    }

    /// All names that [`Feature::named`] knows, `ethtool`'s short ones first.
    pub fn names() -> Vec<&'static str> {
        let short = LEGACY.iter().map(|(short, _, _)| *short);
        let long = LEGACY.iter().map(|(_, long, _)| *long);
        let kernel = LEGACY.iter().map(|(_, _, kernel)| *kernel).filter(|it| !it.contains('*'));
        short.chain(long).chain(kernel).chain(KERNEL).collect()
    }

    /// `ethtool`'s own names, short.
    pub(super) fn short_names() -> Vec<&'static str> {
        LEGACY.iter().map(|(short, _, _)| *short).collect()
    }

    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether all that the other one stands for is among what this one does.
    pub fn includes(self, other: Self) -> bool {
        self == other || self.covers(other.0)
    }

    /// Whether it stands for the kernel's feature of that name.
    pub fn covers(self, kernel: &str) -> bool {
        match LEGACY.iter().find(|(short, _, _)| *short == self.0) {
            Some((_, _, pattern)) => match pattern.split_once('*') {
                Some((start, end)) => {
                    kernel.len() >= start.len() + end.len()
                        && kernel.starts_with(start)
                        && kernel.ends_with(end)
                }
                None => *pattern == kernel,
            },
            None => self.0 == kernel,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_one_feature_are_one() {
        assert_eq!(Feature::named("tx"), Some(Feature::TX));
        assert_eq!(Feature::named("tx-checksumming"), Some(Feature::TX));
        assert_eq!(Feature::named("rx-checksum").map(Feature::name), Some("rx"));
        assert_eq!(
            Feature::named("tx-checksum-ip-generic").map(Feature::name),
            Some("tx-checksum-ip-generic")
        );
        assert_eq!(Feature::named("tx-checksum-*"), None);
        assert_eq!(Feature::named(""), None);
    }

    #[test]
    fn every_name_is_read_and_no_two_features_have_one() {
        let names = Feature::names();
        let set: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(set.len(), names.len());
        for name in names {
            let feature = Feature::named(name).unwrap();
            assert_eq!(Feature::named(feature.name()), Some(feature));
        }
    }

    #[test]
    fn a_feature_covers_those_of_the_kernel() {
        for (name, covered, others) in [
            ("tx", &["tx-checksum-ipv4", "tx-checksum-sctp"][..], &["rx-checksum", "tx", "tx-checksum"][..]),
            ("tso", &["tx-tcp-segmentation", "tx-tcp6-segmentation"], &["tx-udp-segmentation", "tx-tcp"]),
            ("sg", &["tx-scatter-gather", "tx-scatter-gather-fraglist"], &["scatter-gather"]),
            ("gro", &["rx-gro"], &["rx-gro-hw", "rx-gro-list"]),
            ("rx-gro-hw", &["rx-gro-hw"], &["rx-gro"]),
        ] {
            let feature = Feature::named(name).unwrap();
            assert!(covered.iter().all(|it| feature.covers(it)), "{name}");
            assert!(!others.iter().any(|it| feature.covers(it)), "{name}");
        }
    }
}
