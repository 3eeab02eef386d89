//! Parses and formats settings in the syntax of `ethtool`, without the device.

mod feature;
mod names;
mod parse;

use std::collections::BTreeMap;
use std::fmt;

use crate::ethtool::names::Command;
use crate::words::BadWord;

pub use feature::Feature;
pub use names::{Channel, CoalesceNumber, CoalesceSwitch, Duplex, Pause, Ring};

/// One command of `ethtool(8)`. None is empty: each sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ethtool {
    /// `--offload`: in the order given, no feature twice. Later ones have the last word where two cover the same.
    Features(Vec<(Feature, bool)>),
    /// `--set-ring`, in descriptors.
    Ring(BTreeMap<Ring, u32>),
    /// `--set-channels`, in queues.
    Channels(BTreeMap<Channel, u32>),
    Coalesce(Coalesce),
    Pause(BTreeMap<Pause, bool>),
    Change(Change),
}

/// `--coalesce`: interrupt moderation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coalesce {
    pub switches: BTreeMap<CoalesceSwitch, bool>,
    /// In the unit that the name ends with.
    pub numbers: BTreeMap<CoalesceNumber, u32>,
}

/// `--change`: speed, duplex and autonegotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Megabits per second.
    pub speed: Option<u32>,
    pub duplex: Option<Duplex>,
    pub autoneg: Option<bool>,
}

impl Ethtool {
    /// Reads one command of `ethtool`, without the device:
    ///
    /// ```text
    /// --offload|--features|-K FEATURE on|off …
    /// --set-ring|-G rx|rx-mini|rx-jumbo|tx N …
    /// --set-channels|-L rx|tx|other|combined N …
    /// --coalesce|-C adaptive-rx|adaptive-tx|cqe-mode-rx|cqe-mode-tx on|off … rx-usecs|rx-frames|tx-usecs|… N …
    /// --pause|-A autoneg|rx|tx on|off …
    /// --change|-s [speed N] [duplex half|full] [autoneg on|off]
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadWord> {
        parse::ethtool(text)
    }

    /// Merges a later command of the same kind, which wins. False if it is of another kind.
    pub fn merge(&mut self, later: &Self) -> bool {
        match (self, later) {
            (Self::Features(it), Self::Features(later)) => {
                for (feature, on) in later {
                    it.retain(|(known, _)| known != feature);
                    it.push((*feature, *on));
                }
            }
            (Self::Ring(it), Self::Ring(later)) => it.extend(later),
            (Self::Channels(it), Self::Channels(later)) => it.extend(later),
            (Self::Coalesce(it), Self::Coalesce(later)) => {
                it.switches.extend(&later.switches);
                it.numbers.extend(&later.numbers);
            }
            (Self::Pause(it), Self::Pause(later)) => it.extend(later),
            (Self::Change(it), Self::Change(later)) => {
                it.speed = later.speed.or(it.speed);
                it.duplex = later.duplex.or(it.duplex);
                it.autoneg = later.autoneg.or(it.autoneg);
            }
            _ => return false,
        }
        true
    }

    fn command(&self) -> Command {
        match self {
            Self::Features(_) => Command::Features,
            Self::Ring(_) => Command::Ring,
            Self::Channels(_) => Command::Channels,
            Self::Coalesce(_) => Command::Coalesce,
            Self::Pause(_) => Command::Pause,
            Self::Change(_) => Command::Change,
        }
    }
}

/// What `ethtool` takes, by the long names of commands and the short ones of features. Read again, it is the same.
impl fmt::Display for Ethtool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command().name())?;
        match self {
            Self::Features(features) => {
                features.iter().try_for_each(|(feature, on)| write!(f, " {feature} {}", switch(*on)))
            }
            Self::Ring(rings) => {
                rings.iter().try_for_each(|(it, number)| write!(f, " {} {number}", it.name()))
            }
            Self::Channels(channels) => {
                channels.iter().try_for_each(|(it, number)| write!(f, " {} {number}", it.name()))
            }
            Self::Coalesce(Coalesce { switches, numbers }) => {
                switches.iter().try_for_each(|(it, on)| write!(f, " {} {}", it.name(), switch(*on)))?;
                numbers.iter().try_for_each(|(it, number)| write!(f, " {} {number}", it.name()))
            }
            Self::Pause(pauses) => {
                pauses.iter().try_for_each(|(it, on)| write!(f, " {} {}", it.name(), switch(*on)))
            }
            Self::Change(Change { speed, duplex, autoneg }) => {
                speed.iter().try_for_each(|it| write!(f, " speed {it}"))?;
                duplex.iter().try_for_each(|it| write!(f, " duplex {}", it.name()))?;
                autoneg.iter().try_for_each(|it| write!(f, " autoneg {}", switch(*it)))
            }
        }
    }
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests;
