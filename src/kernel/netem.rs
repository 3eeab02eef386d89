//! The netlink format of a netem: the bytes of TCA_OPTIONS (`include/uapi/linux/pkt_sched.h`, `net/sched/sch_netem.c`).
//!
//! A `struct tc_netem_qopt` is followed by attributes. The kernel applies the whole struct, but keeps the old value of
//! each attribute that is absent. There are two exceptions: without TCA_NETEM_LOSS it returns to random loss, and
//! without a seed some versions draw a new one and others keep the old one.

mod table;

use std::hash::{BuildHasher, RandomState};

use rtnetlink::packet_core::NlasIterator;

use crate::kernel::attribute::{Attributes, NESTED};
use crate::netem::{
    Chance, Delay, Distribution, Loss, MAX_JITTER, Nanos, Netem, Percent, Rate, Reorder, Slot, SlotDelay,
};

const CORR: u16 = 1;
const DELAY_DIST: u16 = 2;
const REORDER: u16 = 3;
const CORRUPT: u16 = 4;
const LOSS: u16 = 5;
const RATE: u16 = 6;
const ECN: u16 = 7;
const RATE64: u16 = 8;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;
const SLOT: u16 = 12;
const SLOT_DIST: u16 = 13;
const PRNG_SEED: u16 = 14;

/// The size of `struct tc_netem_qopt`, in bytes.
const QOPT: usize = 24;

/// NETEM_LOSS_GI and NETEM_LOSS_GE, inside of TCA_NETEM_LOSS.
const LOSS_STATE: u16 = 1;
const LOSS_GEMODEL: u16 = 2;

/// The kernel's tick in nanoseconds (PSCHED_TICKS2NS()); `tc` reads the same out of `/proc/net/psched`.
const TICK: i64 = 64;

/// The target of the options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A new netem: absent attributes are not set.
    New,
    /// An existing netem: absent attributes would keep their values.
    Present,
}

/// TCA_OPTIONS for a new netem, byte for byte as `tc qdisc add … netem` of iproute2 6.1 sends it, with these
/// exceptions:
///
/// * Times that are not a multiple of 64 ns, or longer than 274 s, are sent exactly too. `tc` rounds them down to
///   ticks, or refuses them.
/// * A correlation of duplicates is always sent. `tc` drops it unless another option has one.
/// * Options without effect (`corrupt 0%`) are not sent.
/// * The distribution tables are computed by conlink.
pub(super) fn encode(netem: &Netem) -> Vec<u8> {
    options(netem, Target::New)
}

/// TCA_OPTIONS that replace all parameters of an existing netem. For RTM_NEWQDISC with its own handle or NLM_F_REPLACE.
/// Packets in the queue keep their times.
///
/// The kernel cannot drop a distribution table, and it uses the bounds of slots only without a table. So for uniform
/// jitter or slots a uniform table is sent. From then on `tc qdisc show` prints `slot MIN MAX` as `slot distribution
/// DELAY JITTER`; [`decode`] handles that.
pub(super) fn encode_change(netem: &Netem) -> Vec<u8> {
    options(netem, Target::Present)
}

/// The attributes in the order of `tc`; the kernel accepts any order.
fn options(netem: &Netem, target: Target) -> Vec<u8> {
    let present = target == Target::Present;
    let delay = netem.delay.unwrap_or(NO_DELAY);
    let mut out = Attributes::after(prefix(netem, delay));
    if delay.time != from_ticks(ticks(delay.time)) {
        out.bytes(LATENCY64, &delay.time.0.to_ne_bytes());
    }
    if delay.jitter != from_ticks(ticks(delay.jitter)) {
        out.bytes(JITTER64, &delay.jitter.0.to_ne_bytes());
    }
    let random = match netem.loss {
        Some(Loss::Random(it)) => it,
        Some(Loss::State { .. } | Loss::Gemodel { .. }) | None => NONE,
    };
    let duplicate = netem.duplicate.unwrap_or(NONE);
    let reorder = netem.reorder.map_or(NONE, |it| it.chance);
    let corrupt = netem.corrupt.unwrap_or(NONE);
    let correlations = [delay.correlation, random.correlation, duplicate.correlation];
    // `tc` sends it also for the correlations of these two, although it does not contain them.
    let others = [reorder.correlation, corrupt.correlation];
    if present || correlations.iter().chain(&others).any(|it| !it.is_zero()) {
        out.words(CORR, &correlations.map(|it| it.0));
    }
    if present || netem.reorder.is_some() {
        out.words(REORDER, &[reorder.percent.0, reorder.correlation.0]);
    }
    if present || netem.ecn {
        out.words(ECN, &[u32::from(netem.ecn)]);
    }
    if present || netem.corrupt.is_some() {
        out.words(CORRUPT, &[corrupt.percent.0, corrupt.correlation.0]);
    }
    if present || netem.slot.is_some() {
        out.bytes(SLOT, &netem.slot.map_or([0; 40], |it| slot(it, target)));
    }
    put_loss(&mut out, netem.loss);
    if present || netem.rate.is_some() {
        put_rate(&mut out, netem.rate.unwrap_or(NO_RATE));
    }
    // An earlier seed must not stay in use, so a random one is sent.
    if let Some(seed) = netem.seed.or_else(|| present.then(draw)) {
        out.bytes(PRNG_SEED, &seed.to_ne_bytes());
    }
    if delay.distribution.is_some() || present && !delay.jitter.is_zero() {
        put_table(&mut out, DELAY_DIST, delay.distribution);
    }
    match netem.slot.map(|it| it.delay) {
        Some(SlotDelay::Distribution { distribution, .. }) => {
            put_table(&mut out, SLOT_DIST, Some(distribution))
        }
        Some(SlotDelay::Between { .. }) if present => put_table(&mut out, SLOT_DIST, None),
        Some(SlotDelay::Between { .. }) | None => {}
    }
    out.into_bytes()
}

/// A random number, from the random keys of the standard library's hashers.
fn draw() -> u64 {
    RandomState::new().hash_one(0)
}

const NONE: Chance = Chance { percent: Percent(0), correlation: Percent(0) };
const NO_DELAY: Delay =
    Delay { time: Nanos(0), jitter: Nanos(0), correlation: Percent(0), distribution: None };
const NO_RATE: Rate = Rate { bytes: 0, packet_overhead: 0, cell_size: 0, cell_overhead: 0 };

/// `struct tc_netem_qopt`
fn prefix(netem: &Netem, delay: Delay) -> Vec<u8> {
    let loss = match netem.loss {
        Some(Loss::Random(it)) => it.percent.0,
        Some(Loss::State { .. } | Loss::Gemodel { .. }) | None => 0,
    };
    bytes(&[
        ticks(delay.time),
        netem.limit,
        loss,
        netem.reorder.map_or(0, |it| it.gap),
        netem.duplicate.map_or(0, |it| it.percent.0),
        ticks(delay.jitter),
    ])
}

/// The time in whole ticks, up to the maximum.
fn ticks(time: Nanos) -> u32 {
    u32::try_from(time.0.max(0) / TICK).unwrap_or(u32::MAX)
}

fn from_ticks(ticks: u32) -> Nanos {
    Nanos(i64::from(ticks) * TICK)
}

fn put_loss(out: &mut Attributes, loss: Option<Loss>) {
    let mut model = Attributes::default();
    match loss {
        Some(Loss::State { p13, p31, p32, p23, p14 }) => {
            model.words(LOSS_STATE, &[p13, p31, p32, p14, p23].map(|it| it.0));
        }
        Some(Loss::Gemodel { p, r, one_minus_h, one_minus_k }) => {
            model.words(LOSS_GEMODEL, &[p.0, r.0, u32::MAX - one_minus_h.0, one_minus_k.0]);
        }
        // Without the attribute the kernel returns to random loss.
        Some(Loss::Random(_)) | None => return,
    }
    out.bytes(LOSS | NESTED, model.as_bytes());
}

fn put_rate(out: &mut Attributes, rate: Rate) {
    let bytes = u32::try_from(rate.bytes).unwrap_or_else(|_| {
        out.bytes(RATE64, &rate.bytes.to_ne_bytes());
        u32::MAX
    });
    let overheads =
        [rate.packet_overhead.cast_unsigned(), rate.cell_size, rate.cell_overhead.cast_unsigned()];
    out.words(RATE, &[bytes, overheads[0], overheads[1], overheads[2]]);
}

/// `struct tc_netem_slot`
fn slot(slot: Slot, target: Target) -> [u8; 40] {
    let mut out = [0; 40];
    let (min, max, delay, jitter) = match (slot.delay, target) {
        (SlotDelay::Between { min, max }, Target::New) => (min, max, Nanos(0), Nanos(0)),
        // The kernel uses the bounds only without a table, so both forms are sent.
        (SlotDelay::Between { min, max }, Target::Present) => {
            let (delay, jitter) = spread(min, max);
            (min, max, delay, jitter)
        }
        (SlotDelay::Distribution { delay, jitter, .. }, _) => (Nanos(0), Nanos(0), delay, jitter),
    };
    let limits = [slot.packets.unwrap_or(0), slot.bytes.unwrap_or(0)];
    let fields = min.0.to_ne_bytes().into_iter().chain(max.0.to_ne_bytes());
    let fields = fields.chain(limits.into_iter().flat_map(u32::to_ne_bytes));
    let fields = fields.chain(delay.0.to_ne_bytes()).chain(jitter.0.to_ne_bytes());
    for (to, from) in out.iter_mut().zip(fields) {
        *to = from;
    }
    out
}

/// The middle of two bounds, and their distance from it in whole nanoseconds.
fn spread(min: Nanos, max: Nanos) -> (Nanos, Nanos) {
    let half = max.0.saturating_sub(min.0) / 2;
    (Nanos(min.0.saturating_add(half)), Nanos(half).min(MAX_JITTER))
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|it| it.to_ne_bytes()).collect()
}

/// Appends a distribution table; None: uniform.
fn put_table(out: &mut Attributes, kind: u16, distribution: Option<Distribution>) {
    let numbers = table::of(distribution);
    out.bytes(kind, &numbers.iter().flat_map(|it| it.to_ne_bytes()).collect::<Vec<u8>>());
}

/// Do the reported options have a seed?
pub(super) fn has_seed(options: &[u8]) -> bool {
    let attributes = options.get(QOPT..).unwrap_or_default();
    NlasIterator::new(attributes).flatten().any(|it| it.kind() == PRNG_SEED)
}

/// Parses reported TCA_OPTIONS, in the form of [`Netem::observable`]. None if no configuration text can express them.
pub(super) fn decode(options: &[u8]) -> Option<Netem> {
    let mut prefix = Fields(options);
    let (latency, limit, loss, gap) = (prefix.u32()?, prefix.u32()?, prefix.u32()?, prefix.u32()?);
    let (duplicate, jitter) = (prefix.u32()?, prefix.u32()?);
    let mut netem = Netem { limit, ..Netem::default() };
    let mut delay = Delay { time: from_ticks(latency), jitter: from_ticks(jitter), ..NO_DELAY };
    let mut random = Chance { percent: Percent(loss), ..NONE };
    let mut duplicate = Chance { percent: Percent(duplicate), ..NONE };
    let mut reorder = NONE;
    let mut model = None;
    let mut rate = NO_RATE;
    let mut rate64 = None;
    for attribute in NlasIterator::new(prefix.0) {
        let attribute = attribute.ok()?;
        let mut fields = Fields(attribute.value());
        match attribute.kind() {
            LATENCY64 => delay.time = fields.time()?,
            JITTER64 => delay.jitter = fields.time()?,
            CORR => {
                delay.correlation = fields.percent()?;
                random.correlation = fields.percent()?;
                duplicate.correlation = fields.percent()?;
            }
            REORDER => reorder = fields.chance()?,
            CORRUPT => netem.corrupt = some(fields.chance()?),
            ECN => netem.ecn = fields.u32()? != 0,
            RATE => {
                rate.bytes = u64::from(fields.u32()?);
                rate.packet_overhead = fields.u32()?.cast_signed();
                rate.cell_size = fields.u32()?;
                rate.cell_overhead = fields.u32()?.cast_signed();
            }
            RATE64 => rate64 = Some(fields.u64()?),
            SLOT => netem.slot = fields.slot()?,
            LOSS => model = Some(loss_model(attribute.value())?),
            _ => {}
        }
    }
    if !delay.time.is_zero() || !delay.jitter.is_zero() {
        let correlation = if delay.jitter.is_zero() { Percent(0) } else { delay.correlation };
        netem.delay = Some(Delay { jitter: delay.jitter.min(MAX_JITTER), correlation, ..delay });
    }
    netem.loss = model.or(some(random).map(Loss::Random));
    netem.duplicate = some(duplicate);
    // Without a gap the kernel does not reorder.
    netem.reorder = some(reorder).filter(|_| gap > 0).map(|chance| Reorder { chance, gap });
    rate.bytes = rate64.map_or(rate.bytes, |it| it.max(rate.bytes));
    netem.rate = Some(rate).filter(|it| it.bytes > 0);
    Some(netem)
}

/// A probability; None if it is 0.
fn some(chance: Chance) -> Option<Chance> {
    Some(chance).filter(|it| !it.percent.is_zero())
}

fn loss_model(attributes: &[u8]) -> Option<Loss> {
    let attribute = NlasIterator::new(attributes).next()?.ok()?;
    let mut fields = Fields(attribute.value());
    match attribute.kind() {
        LOSS_STATE => {
            let (p13, p31, p32) = (fields.percent()?, fields.percent()?, fields.percent()?);
            let (p14, p23) = (fields.percent()?, fields.percent()?);
            Some(Loss::State { p13, p31, p32, p23, p14 })
        }
        LOSS_GEMODEL => Some(Loss::Gemodel {
            p: fields.percent()?,
            r: fields.percent()?,
            one_minus_h: Percent(u32::MAX - fields.u32()?),
            one_minus_k: fields.percent()?,
        }),
        _ => None,
    }
}

/// Reads the fields of a struct in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.next().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.next().map(u64::from_ne_bytes)
    }

    fn percent(&mut self) -> Option<Percent> {
        self.u32().map(Percent)
    }

    fn chance(&mut self) -> Option<Chance> {
        Some(Chance { percent: self.percent()?, correlation: self.percent()? })
    }

    /// None for a negative time.
    fn time(&mut self) -> Option<Nanos> {
        self.next().map(i64::from_ne_bytes).filter(|it| *it >= 0).map(Nanos)
    }

    /// The inner None means no slots.
    fn slot(&mut self) -> Option<Option<Slot>> {
        let (min, max) = (self.time()?, self.time()?);
        let (packets, bytes) = (self.u32()?, self.u32()?);
        let (delay, jitter) = (self.time()?, self.time()?);
        let by_table = !jitter.is_zero() && (delay, jitter) != spread(min, max);
        let delay = if by_table {
            SlotDelay::Distribution {
                distribution: Distribution::Normal,
                delay,
                jitter: jitter.min(MAX_JITTER),
            }
        } else if max.is_zero() {
            return Some(None);
        } else {
            SlotDelay::Between { min: Some(min).filter(|it| *it <= max)?, max }
        };
        // The kernel's values for "no limit": as accepted and as stored.
        let limit = |it: u32| match it {
            0 | 0x7fff_ffff => Some(None),
            1..=Slot::MAX => Some(Some(it)),
            _ => None,
        };
        Some(Some(Slot { delay, packets: limit(packets)?, bytes: limit(bytes)? }))
    }
}

#[cfg(test)]
mod tests;
