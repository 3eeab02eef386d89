//! Parses and formats impairments in the syntax of `tc qdisc … netem`.
//!
//! The fields have the kernel's units. Texts that are the same to the kernel give equal values: an option without an effect
//! (`loss 0%`) is left out.

mod parse;
mod units;

use std::fmt;

use crate::words::BadWord;

pub use units::{Nanos, Percent};

/// The OPTIONS of `tc-netem(8)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netem {
    /// Packets that the queue holds at most, 1000 when none is given.
    pub limit: u32,
    pub delay: Option<Delay>,
    pub loss: Option<Loss>,
    /// Marks packets that could carry it, rather than losing them. Only with `loss`.
    pub ecn: bool,
    pub corrupt: Option<Chance>,
    pub duplicate: Option<Chance>,
    /// Only with a `delay` above zero.
    pub reorder: Option<Reorder>,
    pub rate: Option<Rate>,
    pub slot: Option<Slot>,
    /// Of the random numbers; None: the kernel draws one.
    pub seed: Option<u64>,
}

/// `delay TIME [JITTER [CORRELATION]] [distribution NAME]`. One of time and jitter is above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub time: Nanos,
    /// At most [`MAX_JITTER`].
    pub jitter: Nanos,
    /// Of each packet's delay with the one before; zero without jitter.
    pub correlation: Percent,
    /// The shape of the jitter, None for uniform: the kernel's own, without a table. Only with time and jitter above
    /// zero.
    pub distribution: Option<Distribution>,
}

/// The most jitter that the kernel's tables take, `INT_MAX`; it clips greater ones (`net/sched/sch_netem.c`).
pub const MAX_JITTER: Nanos = Nanos(i32::MAX as i64);

/// A table of jitters, named as the files of iproute2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distribution {
    Normal,
    Pareto,
    ParetoNormal,
}

/// `PERCENT [CORRELATION]`, the percentage above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    pub percent: Percent,
    pub correlation: Percent,
}

/// A model of packet loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `loss [random] PERCENT [CORRELATION]`
    Random(Chance),
    /// `loss state P13 [P31 [P32 [P23 [P14]]]]`: a Markov chain of four states (NETEM_LOSS_GI).
    State { p13: Percent, p31: Percent, p32: Percent, p23: Percent, p14: Percent },
    /// `loss gemodel P [R [1-H [1-K]]]`: good and bad times after Gilbert and Elliot (NETEM_LOSS_GE).
    Gemodel {
        p: Percent,
        r: Percent,
        /// The kernel holds h, which is [`u32::MAX`] less this.
        one_minus_h: Percent,
        /// The kernel holds this same number, as `k1`.
        one_minus_k: Percent,
    },
}

/// `reorder PERCENT [CORRELATION] [gap N]`: packets that overtake the delayed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    pub chance: Chance,
    /// Every so many packets, 1 when none is given.
    pub gap: u32,
}

/// `rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, above zero.
    pub bytes: u64,
    /// Bytes added to each packet, or taken off.
    pub packet_overhead: i32,
    /// Packets fill whole cells of so many bytes; zero for no cells.
    pub cell_size: u32,
    /// Bytes added to each cell, or taken off.
    pub cell_overhead: i32,
}

/// `slot … [packets N] [bytes N]`: packets are held, and released when a slot comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub delay: SlotDelay,
    /// Released in one slot at most, 1 to [`Slot::MAX`]; None: any number.
    pub packets: Option<u32>,
    /// As `packets`, in bytes.
    pub bytes: Option<u32>,
}

/// How long it is from one slot to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotDelay {
    /// `slot MIN [MAX]`: anywhere from `min` to `max`, which is not less and above zero.
    Between { min: Nanos, max: Nanos },
    /// `slot distribution NAME DELAY JITTER`: the jitter above zero and at most [`MAX_JITTER`].
    Distribution { distribution: Distribution, delay: Nanos, jitter: Nanos },
}

impl Slot {
    /// `INT_MAX` less one: the kernel has `INT_MAX` for no limit.
    pub const MAX: u32 = (i32::MAX - 1) as u32;
}

impl Distribution {
    const ALL: [Distribution; 3] = [Self::Normal, Self::Pareto, Self::ParetoNormal];

    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::ParetoNormal => "paretonormal",
        }
    }
}

impl Netem {
    const LIMIT: u32 = 1000;

    /// Reads what follows `netem`:
    ///
    /// ```text
    /// [limit N] [delay TIME [JITTER [CORRELATION]]] [distribution uniform|normal|pareto|paretonormal]
    /// [loss [random] P [CORRELATION] | loss state P13 [P31 [P32 [P23 [P14]]]] | loss gemodel P [R [1-H [1-K]]]] [ecn]
    /// [corrupt P [CORRELATION]] [duplicate P [CORRELATION]] [reorder P [CORRELATION]] [gap N]
    /// [rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]]
    /// [slot MIN [MAX] [packets N] [bytes N] | slot distribution NAME DELAY JITTER [packets N] [bytes N]] [seed N]
    /// ```
    ///
    /// The order is free. An option that comes again replaces what it said before, as `tc` has it, so that a list can
    /// be overridden by appending to it; only `loss` must not.
    pub fn parse(text: &str) -> Result<Self, BadWord> {
        parse::netem(text)
    }

    /// What a kernel tells of it when asked (`netem_dump()` in `net/sched/sch_netem.c`): it keeps the tables of
    /// distributions and the seed to itself. A slot by distribution, which is told from one without, has
    /// [`Distribution::Normal`] for all of them.
    #[must_use]
    pub fn observable(&self) -> Self {
        let mut observable = self.clone();
        if let Some(delay) = &mut observable.delay {
            delay.distribution = None;
        }
        if let Some(Slot { delay: SlotDelay::Distribution { distribution, .. }, .. }) = &mut observable.slot {
            *distribution = Distribution::Normal;
        }
        observable.seed = None;
        observable
    }

    /// What [`Netem::observable`] leaves out, as words without `:`, such as
    /// `distribution normal slot-distribution pareto seed 7`. None where that is nothing. Two netems that agree in both
    /// are equal.
    pub fn hidden(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(distribution) = self.delay.and_then(|it| it.distribution) {
            parts.push(format!("distribution {}", distribution.name()));
        }
        if let Some(Slot { delay: SlotDelay::Distribution { distribution, .. }, .. }) = self.slot {
            parts.push(format!("slot-distribution {}", distribution.name()));
        }
        parts.extend(self.seed.map(|it| format!("seed {it}")));
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// No impairment, as from an empty text.
impl Default for Netem {
    fn default() -> Self {
        Self {
            limit: Self::LIMIT,
            delay: None,
            loss: None,
            ecn: false,
            corrupt: None,
            duplicate: None,
            reorder: None,
            rate: None,
            slot: None,
            seed: None,
        }
    }
}

/// What `tc` takes. Read again, it is the same.
impl fmt::Display for Netem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.limit != Self::LIMIT {
            parts.push(format!("limit {}", self.limit));
        }
        parts.extend(self.delay.map(|it| it.to_string()));
        parts.extend(self.loss.map(|it| it.to_string()));
        if self.ecn {
            parts.push("ecn".to_owned());
        }
        parts.extend(self.corrupt.map(|it| format!("corrupt {it}")));
        parts.extend(self.duplicate.map(|it| format!("duplicate {it}")));
        parts.extend(self.reorder.map(|it| it.to_string()));
        parts.extend(self.rate.map(|it| it.to_string()));
        parts.extend(self.slot.map(|it| it.to_string()));
        parts.extend(self.seed.map(|it| format!("seed {it}")));
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay {}", self.time)?;
        if !self.jitter.is_zero() {
            write!(f, " {}", self.jitter)?;
        }
        if !self.correlation.is_zero() {
            write!(f, " {}", self.correlation)?;
        }
        match self.distribution {
            Some(it) => write!(f, " distribution {}", it.name()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent)?;
        if self.correlation.is_zero() { Ok(()) } else { write!(f, " {}", self.correlation) }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(it) => write!(f, "loss {it}"),
            Self::State { p13, p31, p32, p23, p14 } => write!(f, "loss state {p13} {p31} {p32} {p23} {p14}"),
            Self::Gemodel { p, r, one_minus_h, one_minus_k } => {
                write!(f, "loss gemodel {p} {r} {one_minus_h} {one_minus_k}")
            }
        }
    }
}

impl fmt::Display for Reorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reorder {}", self.chance)?;
        if self.gap == 1 { Ok(()) } else { write!(f, " gap {}", self.gap) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate {}", units::ShownRate(self.bytes))?;
        match (self.packet_overhead, self.cell_size, self.cell_overhead) {
            (0, 0, 0) => Ok(()),
            (packet, 0, 0) => write!(f, " {packet}"),
            (packet, size, 0) => write!(f, " {packet} {size}"),
            (packet, size, overhead) => write!(f, " {packet} {size} {overhead}"),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delay {
            SlotDelay::Between { min, max } if min == max => write!(f, "slot {min}")?,
            SlotDelay::Between { min, max } => write!(f, "slot {min} {max}")?,
            SlotDelay::Distribution { distribution, delay, jitter } => {
                write!(f, "slot distribution {} {delay} {jitter}", distribution.name())?;
            }
        }
        if let Some(packets) = self.packets {
            write!(f, " packets {packets}")?;
        }
        match self.bytes {
            Some(bytes) => write!(f, " bytes {bytes}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
