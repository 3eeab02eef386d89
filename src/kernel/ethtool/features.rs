//! Offloads: ETHTOOL_GFEATURES and ETHTOOL_SFEATURES.

use std::collections::BTreeMap;
use std::io;

use crate::addr::IfName;
use crate::ethtool::Feature;
use crate::kernel::ethtool::Ioctl;
use crate::plan::FeatureState;

const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// ETH_SS_FEATURES of `enum ethtool_stringset`.
const SET_FEATURES: u32 = 4;
/// ETH_GSTRING_LEN, in words.
const STRING: usize = 8;
/// Features per block, one bit each.
const BITS: usize = 32;

/// The names of the kernel's features by number, the same for all devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Strings(Vec<String>);

/// One block of a device's features (`struct ethtool_get_features_block`).
#[derive(Clone, Copy, Default)]
struct Block {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

impl Ioctl {
    /// The names of all features.
    pub(in crate::kernel) fn feature_names(&self, name: &IfName) -> io::Result<Strings> {
        // struct ethtool_sset_info: command, reserved, a mask of 64 bits, one number per bit that is set.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << SET_FEATURES, 0, 0];
        self.exchange(name, &mut info)?;
        let count = info[4] as usize;
        if info[2] == 0 || count == 0 || count > 4096 {
            return Err(io::Error::other("the kernel does not report the names of its features"));
        }
        // struct ethtool_gstrings: command, set, number, then the strings.
        let mut words = vec![0; 3 + count * STRING];
        (words[0], words[1], words[2]) = (ETHTOOL_GSTRINGS, SET_FEATURES, info[4]);
        self.exchange(name, &mut words)?;
        let text = |words: &[u32]| {
            let bytes: Vec<u8> =
                words.iter().flat_map(|it| it.to_ne_bytes()).take_while(|it| *it != 0).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Strings(words[3..].chunks_exact(STRING).map(text).collect()))
    }

    /// The states of the wanted features.
    pub(in crate::kernel) fn features(
        &self,
        name: &IfName,
        strings: &Strings,
        wanted: &[Feature],
    ) -> io::Result<BTreeMap<String, FeatureState>> {
        let blocks = self.blocks(name, strings)?;
        let mut found = BTreeMap::new();
        for (number, feature) in strings.0.iter().enumerate() {
            if !wanted.iter().any(|it| it.covers(feature)) {
                continue;
            }
            let (block, bit) = (blocks.get(number / BITS).copied().unwrap_or_default(), 1 << (number % BITS));
            let state = FeatureState {
                on: block.active & bit != 0,
                asked_for: block.requested & bit != 0,
                fixed: block.available & bit == 0 || block.never_changed & bit != 0,
            };
            found.insert(feature.clone(), state);
        }
        Ok(found)
    }

    fn blocks(&self, name: &IfName, strings: &Strings) -> io::Result<Vec<Block>> {
        let count = strings.0.len().div_ceil(BITS);
        // struct ethtool_gfeatures: command, number of blocks, then available, requested, active and never_changed.
        let mut words = vec![0; 2 + count * 4];
        (words[0], words[1]) = (ETHTOOL_GFEATURES, u32::try_from(count).unwrap_or(0));
        self.exchange(name, &mut words)?;
        Ok(words[2..]
            .chunks_exact(4)
            .map(|it| Block { available: it[0], requested: it[1], active: it[2], never_changed: it[3] })
            .collect())
    }

    /// `ethtool -K NAME FEATURE on|off …`.
    pub(in crate::kernel) fn set_features(
        &self,
        name: &IfName,
        strings: &Strings,
        features: &[(Feature, bool)],
    ) -> io::Result<()> {
        let before = self.blocks(name, strings)?;
        let mut wanted: BTreeMap<usize, bool> = BTreeMap::new();
        for (feature, on) in features {
            let mut covered = strings.0.iter().enumerate().filter(|(_, it)| feature.covers(it)).peekable();
            if covered.peek().is_none() {
                return Err(io::Error::other(format!("the kernel has no feature `{feature}`")));
            }
            let (mut differ, mut may_change) = (false, false);
            for (number, _) in covered {
                let Some(block) = before.get(number / BITS) else { continue };
                let bit = 1 << (number % BITS);
                let fixed = block.available & bit == 0 || block.never_changed & bit != 0;
                differ |= (block.active & bit != 0) != *on;
                may_change |= !fixed;
                // If a name stands for several features, those that this device can switch are used.
                if !fixed {
                    wanted.insert(number, *on);
                }
            }
            if differ && !may_change {
                return Err(io::Error::other(format!(
                    "the driver does not allow switching feature `{feature}`"
                )));
            }
        }
        self.request_features(name, before.len(), &wanted)?;
        let after = self.blocks(name, strings)?;
        let refused = wanted.iter().find(|(number, on)| {
            after.get(**number / BITS).is_some_and(|it| (it.active & 1 << (**number % BITS) != 0) != **on)
        });
        match refused.and_then(|(number, on)| Some((strings.0.get(*number)?, on))) {
            None => Ok(()),
            Some((feature, on)) => {
                let word = if *on { "on" } else { "off" };
                Err(io::Error::other(format!("the driver does not switch feature `{feature}` {word}")))
            }
        }
    }

    /// Requests features without checking the result: the device switches a feature that needs another one as soon as
    /// it can.
    pub(in crate::kernel) fn reset_features(
        &self,
        name: &IfName,
        strings: &Strings,
        features: &[(Feature, bool)],
    ) -> io::Result<()> {
        let blocks = self.blocks(name, strings)?;
        let mut wanted = BTreeMap::new();
        for (number, feature) in strings.0.iter().enumerate() {
            let (block, bit) = (blocks.get(number / BITS).copied().unwrap_or_default(), 1 << (number % BITS));
            let is_fixed = block.available & bit == 0 || block.never_changed & bit != 0;
            let asked = features.iter().rev().find(|(it, _)| it.covers(feature));
            if let Some((_, on)) = asked.filter(|_| !is_fixed) {
                wanted.insert(number, *on);
            }
        }
        self.request_features(name, blocks.len(), &wanted)
    }

    /// Requests features by number. Others do not change.
    fn request_features(
        &self,
        name: &IfName,
        blocks: usize,
        wanted: &BTreeMap<usize, bool>,
    ) -> io::Result<()> {
        // struct ethtool_sfeatures: command, number of blocks, then valid and requested.
        let mut words = vec![0; 2 + blocks * 2];
        (words[0], words[1]) = (ETHTOOL_SFEATURES, u32::try_from(blocks).unwrap_or(0));
        for (number, on) in wanted {
            let (at, bit) = (2 + number / BITS * 2, 1 << (number % BITS));
            words[at] |= bit;
            if *on {
                words[at + 1] |= bit;
            }
        }
        // A positive answer is a set of ETHTOOL_F_… flags. The result is read from the features themselves.
        self.exchange(name, &mut words).map(drop)
    }
}
