//! The text of a netem, word by word.

use std::ops::RangeInclusive;

use crate::netem::units::{Bare, RATE_TAKES, read_rate, read_size, size_takes};
use crate::netem::{
    Chance, Delay, Distribution, Loss, MAX_JITTER, Nanos, Netem, Percent, Rate, Reorder, Slot, SlotDelay,
};
use crate::words::{BadWord, Word, Words, listed, near};

const OPTIONS: [&str; 12] = [
    "limit",
    "delay",
    "distribution",
    "loss",
    "ecn",
    "corrupt",
    "duplicate",
    "reorder",
    "gap",
    "rate",
    "slot",
    "seed",
];

/// Options whose sense depends on others, with the words that named them.
#[derive(Default)]
struct Pending<'a> {
    distribution: Option<(Word<'a>, Option<Distribution>)>,
    ecn: Option<Word<'a>>,
    reorder: Option<(Word<'a>, Chance)>,
    gap: Option<(Word<'a>, u32)>,
}

pub(super) fn netem(text: &str) -> Result<Netem, BadWord> {
    let mut words = Words::new(text);
    let mut netem = Netem::default();
    let mut pending = Pending::default();
    while let Some(word) = words.next() {
        match word.text {
            "limit" => netem.limit = size(&mut words, "limit", 0..=u32::MAX)?,
            "delay" | "latency" => netem.delay = delay(&mut words, word.text)?,
            "distribution" => pending.distribution = Some((word, distribution(&mut words, "distribution")?)),
            "loss" | "drop" if netem.loss.is_some() => return Err(word.twice("loss")),
            "loss" | "drop" => netem.loss = loss(&mut words, word.text)?,
            "ecn" => pending.ecn = Some(word),
            "corrupt" => netem.corrupt = chance(&mut words, "corrupt")?,
            "duplicate" => netem.duplicate = chance(&mut words, "duplicate")?,
            "reorder" => pending.reorder = chance(&mut words, "reorder")?.map(|it| (word, it)),
            "gap" => pending.gap = Some((word, words.number("gap", 0..=u32::MAX)?)),
            "rate" => netem.rate = Some(rate(&mut words)?),
            "slot" => netem.slot = slot(&mut words)?,
            "seed" => netem.seed = Some(words.number("seed", 0..=u64::MAX)?),
            _ => return Err(word.unknown(&OPTIONS)),
        }
    }
    settle(&mut netem, pending)?;
    Ok(netem)
}

/// Fills in what depends on other options, or refuses it where they are missing, as `tc` does.
fn settle(netem: &mut Netem, pending: Pending<'_>) -> Result<(), BadWord> {
    if let Some((word, distribution)) = pending.distribution {
        match &mut netem.delay {
            Some(delay) if !delay.time.is_zero() && !delay.jitter.is_zero() => {
                delay.distribution = distribution;
            }
            Some(_) | None => {
                let bad = word.bad("`distribution` needs a delay with a jitter".to_owned());
                return Err(bad.with_help("write `delay TIME JITTER distribution NAME`".to_owned()));
            }
        }
    }
    match pending.ecn {
        Some(word) if netem.loss.is_none() => {
            let bad = word.bad("`ecn` needs a loss, whose packets are marked instead".to_owned());
            return Err(bad.with_help("write `loss PERCENT ecn`".to_owned()));
        }
        Some(_) => netem.ecn = true,
        None => {}
    }
    match (pending.reorder, pending.gap) {
        (Some((word, _)), _) if netem.delay.is_none_or(|it| it.time.is_zero()) => {
            let bad = word.bad("`reorder` needs a delay, for packets to overtake".to_owned());
            return Err(bad.with_help("write `delay TIME reorder PERCENT`".to_owned()));
        }
        (Some((_, chance)), gap) => {
            // No gap and a gap of 0 are a gap of 1 to `tc`.
            let gap = gap.map_or(1, |(_, gap)| gap.max(1));
            netem.reorder = Some(Reorder { chance, gap });
        }
        (None, Some((word, gap))) if gap > 0 => {
            let bad = word.bad("`gap` needs a reorder, whose distance it is".to_owned());
            return Err(bad.with_help(format!("write `reorder PERCENT gap {gap}`")));
        }
        (None, _) => {}
    }
    Ok(())
}

fn delay(words: &mut Words<'_>, name: &str) -> Result<Option<Delay>, BadWord> {
    let time = time(words, name, Bare::Micros)?;
    let mut jitter = Nanos(0);
    let mut correlation = Percent(0);
    if let Some(word) = words.next_if_number() {
        jitter = Nanos::read(word, name, Bare::Micros)?.min(MAX_JITTER);
        if let Some(word) = words.next_if_number() {
            correlation = Percent::read(word, name)?;
        }
    }
    // Nothing varies without jitter, so nothing can be correlated.
    let correlation = if jitter.is_zero() { Percent(0) } else { correlation };
    let any = !time.is_zero() || !jitter.is_zero();
    Ok(any.then_some(Delay { time, jitter, correlation, distribution: None }))
}

/// None for uniform, which is no table.
fn distribution(words: &mut Words<'_>, name: &str) -> Result<Option<Distribution>, BadWord> {
    let known = ["uniform", "normal", "pareto", "paretonormal"];
    let word = words.value(name, &listed(&known))?;
    match Distribution::ALL.into_iter().find(|it| it.name() == word.text) {
        Some(distribution) => Ok(Some(distribution)),
        None if word.text == "uniform" => Ok(None),
        None if word.text == "experimental" => {
            let help = "its table is measured and part of iproute2 alone; `paretonormal` is computed";
            Err(word.no_value(name, &listed(&known)).with_help(help.to_owned()))
        }
        None => Err(word.no_name(name, &known)),
    }
}

fn chance(words: &mut Words<'_>, name: &str) -> Result<Option<Chance>, BadWord> {
    let percent = percent(words, name)?;
    let correlation = match words.next_if_number() {
        Some(word) => Percent::read(word, name)?,
        None => Percent(0),
    };
    Ok((!percent.is_zero()).then_some(Chance { percent, correlation }))
}

fn loss(words: &mut Words<'_>, name: &str) -> Result<Option<Loss>, BadWord> {
    let models = ["random", "state", "gemodel"];
    let takes = "a percentage, or one after `random`, `state` or `gemodel`";
    let model = words.clone().value(name, takes)?;
    if model.text.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(chance(words, name)?.map(Loss::Random));
    }
    words.next();
    match model.text {
        "random" => Ok(chance(words, "loss random")?.map(Loss::Random)),
        "state" => {
            let (p13, rest) = percent_and_rest(words, "loss state")?;
            let mut next = |default| next_percent(words, "loss state", default);
            let (p31, p32, p23, p14) =
                (next(rest)?, next(Percent(0))?, next(Percent::ALL)?, next(Percent(0))?);
            Ok(Some(Loss::State { p13, p31, p32, p23, p14 }))
        }
        "gemodel" => {
            let (p, rest) = percent_and_rest(words, "loss gemodel")?;
            let mut next = |default| next_percent(words, "loss gemodel", default);
            let (r, one_minus_h, one_minus_k) = (next(rest)?, next(Percent::ALL)?, next(Percent(0))?);
            Ok(Some(Loss::Gemodel { p, r, one_minus_h, one_minus_k }))
        }
        _ => Err(match near(model.text, &models) {
            Some(_) => model.no_name(name, &models),
            None => model.no_value(name, takes),
        }),
    }
}

/// A percentage and what is missing to 100%.
fn percent_and_rest(words: &mut Words<'_>, name: &str) -> Result<(Percent, Percent), BadWord> {
    let word = words.value(name, Percent::TAKES)?;
    Ok((Percent::read(word, name)?, Percent::read_rest(word, name)?))
}

/// A percentage that may be left out.
fn next_percent(words: &mut Words<'_>, name: &str, default: Percent) -> Result<Percent, BadWord> {
    words.next_if_number().map_or(Ok(default), |it| Percent::read(it, name))
}

fn rate(words: &mut Words<'_>) -> Result<Rate, BadWord> {
    let bytes = read_rate(words.value("rate", RATE_TAKES)?, "rate")?;
    let signed = |it: &str| it.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let mut rate = Rate { bytes, packet_overhead: 0, cell_size: 0, cell_overhead: 0 };
    if let Some(word) = words.next_if(signed) {
        rate.packet_overhead = word.number("rate … PACKETOVERHEAD", i32::MIN..=i32::MAX)?;
    }
    if let Some(word) = words.next_if(signed) {
        rate.cell_size = word.number("rate … CELLSIZE", 0..=u32::MAX)?;
    }
    if let Some(word) = words.next_if(signed) {
        rate.cell_overhead = word.number("rate … CELLOVERHEAD", i32::MIN..=i32::MAX)?;
    }
    Ok(rate)
}

fn slot(words: &mut Words<'_>) -> Result<Option<Slot>, BadWord> {
    let takes = "a time like `800us`, or `distribution NAME DELAY JITTER`";
    let first = words.value("slot", takes)?;
    let delay = if first.text == "distribution" {
        slot_distribution(words)?
    } else if first.text.starts_with(|it: char| it.is_ascii_digit()) {
        slot_between(first, words)?
    } else {
        return Err(first.no_value("slot", takes));
    };
    let mut slot = Slot { delay, packets: None, bytes: None };
    while let Some(word) = words.next_if(|it| matches!(it, "packets" | "bytes")) {
        let limit = match word.text {
            "packets" => &mut slot.packets,
            _ => &mut slot.bytes,
        };
        if limit.is_some() {
            return Err(word.twice(word.text));
        }
        *limit = Some(match word.text {
            "packets" => words.number("packets", 1..=Slot::MAX)?,
            _ => size(words, "bytes", 1..=Slot::MAX)?,
        });
    }
    // The kernel makes no slots of no length.
    Ok(Some(slot).filter(|it| !matches!(it.delay, SlotDelay::Between { max, .. } if max.is_zero())))
}

fn slot_between(first: Word<'_>, words: &mut Words<'_>) -> Result<SlotDelay, BadWord> {
    let min = Nanos::read(first, "slot", Bare::Nanos)?;
    let Some(word) = words.next_if_number() else {
        return Ok(SlotDelay::Between { min, max: min });
    };
    let max = Nanos::read(word, "slot", Bare::Nanos)?;
    if max < min {
        Err(word.no_value("slot MIN MAX", "the smaller time first"))
    } else {
        Ok(SlotDelay::Between { min, max })
    }
}

fn slot_distribution(words: &mut Words<'_>) -> Result<SlotDelay, BadWord> {
    let distribution = distribution(words, "slot distribution")?;
    let delay = time(words, "slot distribution", Bare::Nanos)?;
    let word = words.value("slot distribution", Nanos::TAKES)?;
    let jitter = Nanos::read(word, "slot distribution", Bare::Nanos)?.min(MAX_JITTER);
    if jitter.is_zero() {
        return Err(word.no_value("slot distribution", "a jitter above zero"));
    }
    match distribution {
        Some(distribution) => Ok(SlotDelay::Distribution { distribution, delay, jitter }),
        // Without a table the kernel looks at the bounds alone: put uniform in their terms.
        None if jitter <= delay => {
            Ok(SlotDelay::Between { min: Nanos(delay.0 - jitter.0), max: Nanos(delay.0 + jitter.0) })
        }
        None => Err(word.no_value("slot distribution uniform", "a jitter no greater than the delay")),
    }
}

fn percent(words: &mut Words<'_>, name: &str) -> Result<Percent, BadWord> {
    Percent::read(words.value(name, Percent::TAKES)?, name)
}

fn time(words: &mut Words<'_>, name: &str, bare: Bare) -> Result<Nanos, BadWord> {
    Nanos::read(words.value(name, Nanos::TAKES)?, name, bare)
}

fn size(words: &mut Words<'_>, name: &str, range: RangeInclusive<u32>) -> Result<u32, BadWord> {
    read_size(words.value(name, &size_takes(&range))?, name, range)
}
