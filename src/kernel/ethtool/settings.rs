//! Rings, channels, coalescing, pause and link settings: each structure is read, changed and written back.

use std::io;

use crate::addr::IfName;
use crate::ethtool::{
    Change, Channel, Coalesce, CoalesceNumber, CoalesceSwitch, Duplex, Ethtool, Pause, Ring,
};
use crate::kernel::ethtool::Ioctl;

/// A structure with its commands for reading and writing, and its number of words.
struct Structure {
    get: u32,
    set: u32,
    words: usize,
}

/// `struct ethtool_ringparam`: the maximum values, then the current ones.
const RINGS: Structure = Structure { get: 0x10, set: 0x11, words: 9 };
/// `struct ethtool_channels`: the same.
const CHANNELS: Structure = Structure { get: 0x3c, set: 0x3d, words: 9 };
/// `struct ethtool_coalesce`.
const COALESCE: Structure = Structure { get: 0x0e, set: 0x0f, words: 23 };
/// `struct ethtool_pauseparam`.
const PAUSE: Structure = Structure { get: 0x12, set: 0x13, words: 4 };

const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
const ETHTOOL_SLINKSETTINGS: u32 = 0x4d;
/// The fixed part of `struct ethtool_link_settings`; three sets of modes follow.
const LINK_SETTINGS: usize = 12;
/// The position of a byte: word and byte.
const SPEED: usize = 1;
const DUPLEX: (usize, usize) = (2, 0);
const AUTONEG: (usize, usize) = (2, 3);
const MASK_WORDS: (usize, usize) = (3, 3);

impl Ioctl {
    /// The device's values of the parameters in `wanted`.
    pub(in crate::kernel) fn setting(&self, name: &IfName, wanted: &Ethtool) -> io::Result<Ethtool> {
        Ok(match wanted {
            Ethtool::Features(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Ethtool::Ring(it) => {
                let words = self.get(name, &RINGS)?;
                Ethtool::Ring(it.keys().map(|it| (*it, words[ring(*it)])).collect())
            }
            Ethtool::Channels(it) => {
                let words = self.get(name, &CHANNELS)?;
                Ethtool::Channels(it.keys().map(|it| (*it, words[channel(*it)])).collect())
            }
            Ethtool::Coalesce(it) => {
                let words = self.get(name, &COALESCE)?;
                let mut have = Coalesce::default();
                for key in it.switches.keys() {
                    have.switches.insert(*key, words[switch(*key)?] != 0);
                }
                for key in it.numbers.keys() {
                    have.numbers.insert(*key, words[number(*key)?]);
                }
                Ethtool::Coalesce(have)
            }
            Ethtool::Pause(it) => {
                let words = self.get(name, &PAUSE)?;
                Ethtool::Pause(it.keys().map(|it| (*it, words[pause(*it)] != 0)).collect())
            }
            Ethtool::Change(it) => {
                let words = self.link_settings(name)?;
                Ethtool::Change(Change {
                    speed: it.speed.map(|_| words[SPEED]),
                    duplex: it.duplex.and_then(|_| match byte(&words, DUPLEX) {
                        0 => Some(Duplex::Half),
                        1 => Some(Duplex::Full),
                        _ => None,
                    }),
                    autoneg: it.autoneg.map(|_| byte(&words, AUTONEG) != 0),
                })
            }
        })
    }

    /// `ethtool COMMAND NAME …`. Parameters that are not given do not change.
    pub(in crate::kernel) fn set(&self, name: &IfName, setting: &Ethtool) -> io::Result<()> {
        match setting {
            Ethtool::Features(_) => Err(io::ErrorKind::InvalidInput.into()),
            Ethtool::Ring(it) => {
                let mut words = self.get(name, &RINGS)?;
                it.iter().for_each(|(key, value)| words[ring(*key)] = *value);
                self.put(name, &RINGS, words)
            }
            Ethtool::Channels(it) => {
                let mut words = self.get(name, &CHANNELS)?;
                it.iter().for_each(|(key, value)| words[channel(*key)] = *value);
                self.put(name, &CHANNELS, words)
            }
            Ethtool::Coalesce(it) => {
                let mut words = self.get(name, &COALESCE)?;
                for (key, on) in &it.switches {
                    words[switch(*key)?] = u32::from(*on);
                }
                for (key, value) in &it.numbers {
                    words[number(*key)?] = *value;
                }
                self.put(name, &COALESCE, words)
            }
            Ethtool::Pause(it) => {
                let mut words = self.get(name, &PAUSE)?;
                it.iter().for_each(|(key, on)| words[pause(*key)] = u32::from(*on));
                self.put(name, &PAUSE, words)
            }
            Ethtool::Change(it) => {
                let mut words = self.link_settings(name)?;
                words[0] = ETHTOOL_SLINKSETTINGS;
                if let Some(speed) = it.speed {
                    words[SPEED] = speed;
                }
                if let Some(duplex) = it.duplex {
                    set_byte(&mut words, DUPLEX, u8::from(duplex == Duplex::Full));
                }
                if let Some(on) = it.autoneg {
                    set_byte(&mut words, AUTONEG, u8::from(on));
                }
                self.exchange(name, &mut words).map(drop)
            }
        }
    }

    fn get(&self, name: &IfName, structure: &Structure) -> io::Result<Vec<u32>> {
        let mut words = vec![0; structure.words];
        words[0] = structure.get;
        self.exchange(name, &mut words)?;
        Ok(words)
    }

    fn put(&self, name: &IfName, structure: &Structure, mut words: Vec<u32>) -> io::Result<()> {
        words[0] = structure.set;
        self.exchange(name, &mut words).map(drop)
    }

    /// The first request asks for the length of the mode sets, which the kernel returns as a negative number.
    fn link_settings(&self, name: &IfName) -> io::Result<Vec<u32>> {
        let mut words = vec![0; LINK_SETTINGS];
        words[0] = ETHTOOL_GLINKSETTINGS;
        self.exchange(name, &mut words)?;
        let length = byte(&words, MASK_WORDS).cast_signed().checked_neg().filter(|it| *it > 0);
        let length =
            length.ok_or_else(|| io::Error::other("unexpected format of the kernel's link settings"))?;
        let mut words = vec![0; LINK_SETTINGS + 3 * usize::from(length.cast_unsigned())];
        words[0] = ETHTOOL_GLINKSETTINGS;
        set_byte(&mut words, MASK_WORDS, length.cast_unsigned());
        self.exchange(name, &mut words)?;
        Ok(words)
    }
}

fn byte(words: &[u32], (word, at): (usize, usize)) -> u8 {
    words[word].to_ne_bytes()[at]
}

fn set_byte(words: &mut [u32], (word, at): (usize, usize), value: u8) {
    let mut bytes = words[word].to_ne_bytes();
    bytes[at] = value;
    words[word] = u32::from_ne_bytes(bytes);
}

fn ring(it: Ring) -> usize {
    match it {
        Ring::Rx => 5,
        Ring::RxMini => 6,
        Ring::RxJumbo => 7,
        Ring::Tx => 8,
    }
}

fn channel(it: Channel) -> usize {
    match it {
        Channel::Rx => 5,
        Channel::Tx => 6,
        Channel::Other => 7,
        Channel::Combined => 8,
    }
}

fn pause(it: Pause) -> usize {
    match it {
        Pause::Autoneg => 1,
        Pause::Rx => 2,
        Pause::Tx => 3,
    }
}

fn switch(it: CoalesceSwitch) -> io::Result<usize> {
    Ok(match it {
        CoalesceSwitch::AdaptiveRx => 10,
        CoalesceSwitch::AdaptiveTx => 11,
        CoalesceSwitch::CqeModeRx | CoalesceSwitch::CqeModeTx => return Err(newer(it.name())),
    })
}

fn number(it: CoalesceNumber) -> io::Result<usize> {
    Ok(match it {
        CoalesceNumber::RxUsecs => 1,
        CoalesceNumber::RxFrames => 2,
        CoalesceNumber::RxUsecsIrq => 3,
        CoalesceNumber::RxFramesIrq => 4,
        CoalesceNumber::TxUsecs => 5,
        CoalesceNumber::TxFrames => 6,
        CoalesceNumber::TxUsecsIrq => 7,
        CoalesceNumber::TxFramesIrq => 8,
        CoalesceNumber::StatsBlockUsecs => 9,
        CoalesceNumber::PktRateLow => 12,
        CoalesceNumber::RxUsecsLow => 13,
        CoalesceNumber::RxFramesLow => 14,
        CoalesceNumber::TxUsecsLow => 15,
        CoalesceNumber::TxFramesLow => 16,
        CoalesceNumber::PktRateHigh => 17,
        CoalesceNumber::RxUsecsHigh => 18,
        CoalesceNumber::RxFramesHigh => 19,
        CoalesceNumber::TxUsecsHigh => 20,
        CoalesceNumber::TxFramesHigh => 21,
        CoalesceNumber::SampleInterval => 22,
        CoalesceNumber::TxAggrMaxBytes
        | CoalesceNumber::TxAggrMaxFrames
        | CoalesceNumber::TxAggrTimeUsecs => {
            return Err(newer(it.name()));
        }
    })
}

fn newer(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the ethtool ioctl cannot set `{name}`"))
}
