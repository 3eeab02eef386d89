//! The text of a command of `ethtool`, word by word.

use std::collections::BTreeMap;

use crate::ethtool::names::{ChangeKey, Command};
use crate::ethtool::{
    Change, Channel, Coalesce, CoalesceNumber, CoalesceSwitch, Duplex, Ethtool, Feature, Pause, Ring,
};
use crate::words::{BadWord, Word, Words, listed, near};

/// What `ethtool` takes for a speed, in megabits per second (`ethtool_validate_speed()` in the kernel).
const MAX_SPEED: u32 = i32::MAX as u32;

pub(super) fn ethtool(text: &str) -> Result<Ethtool, BadWord> {
    let mut words = Words::new(text);
    let Some(word) = words.next() else {
        let bad = words.missing("expected an ethtool command".to_owned());
        return Err(bad.with_help(supported()));
    };
    let Some(command) = Command::any_named(word.text) else {
        let bad = word.bad(format!("ethtool command `{}` is not supported", word.text));
        return Err(bad.with_help(match near(word.text, &Command::names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => supported(),
        }));
    };
    if words.peek().is_none() {
        let bad = words.missing(format!("`{}` needs a setting", word.text));
        return Err(bad.with_help(format!("write `{} {}`", word.text, example(command))));
    }
    match command {
        Command::Features => features(words).map(Ethtool::Features),
        Command::Ring => settings(words, Ring::named, &Ring::names(), number).map(Ethtool::Ring),
        Command::Channels => {
            settings(words, Channel::named, &Channel::names(), number).map(Ethtool::Channels)
        }
        Command::Coalesce => coalesce(words).map(Ethtool::Coalesce),
        Command::Pause => settings(words, Pause::named, &Pause::names(), switch).map(Ethtool::Pause),
        Command::Change => change(words).map(Ethtool::Change),
    }
}

fn supported() -> String {
    format!("supported are {}", listed(&Command::names()).replace(" or ", " and "))
}

fn example(command: Command) -> &'static str {
    match command {
        Command::Features => "tx off",
        Command::Ring => "rx 512 tx 512",
        Command::Channels => "combined 2",
        Command::Coalesce => "rx-usecs 50",
        Command::Pause => "rx off tx off",
        Command::Change => "speed 1000 duplex full",
    }
}

fn features(mut words: Words<'_>) -> Result<Vec<(Feature, bool)>, BadWord> {
    let mut features: Vec<(Feature, bool)> = Vec::new();
    while let Some(word) = words.next() {
        let Some(feature) = Feature::named(word.text) else {
            let bad = word.bad(format!("unknown feature `{}`", word.text));
            return Err(bad.with_help(match near(word.text, &Feature::names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("expected {}, or the kernel's name of a feature", listed(&Feature::short_names()))
                }
            }));
        };
        if features.iter().any(|(it, _)| *it == feature) {
            return Err(word.twice(feature.name()));
        }
        features.push((feature, words.switch(word.text)?));
    }
    Ok(features)
}

/// Settings that are all of one type, each given once.
fn settings<'a, K: Ord, V>(
    mut words: Words<'a>,
    named: impl Fn(&str) -> Option<K>,
    known: &[&str],
    value: impl Fn(&mut Words<'a>, Word<'a>) -> Result<V, BadWord>,
) -> Result<BTreeMap<K, V>, BadWord> {
    let mut settings = BTreeMap::new();
    while let Some(word) = words.next() {
        let key = named(word.text).ok_or_else(|| word.unknown(known))?;
        let value = value(&mut words, word)?;
        if settings.insert(key, value).is_some() {
            return Err(word.twice(word.text));
        }
    }
    Ok(settings)
}

fn number<'a>(words: &mut Words<'a>, key: Word<'a>) -> Result<u32, BadWord> {
    words.number(key.text, 0..=u32::MAX)
}

fn switch<'a>(words: &mut Words<'a>, key: Word<'a>) -> Result<bool, BadWord> {
    words.switch(key.text)
}

fn coalesce(mut words: Words<'_>) -> Result<Coalesce, BadWord> {
    let mut coalesce = Coalesce::default();
    while let Some(word) = words.next() {
        let twice = if let Some(key) = CoalesceSwitch::named(word.text) {
            coalesce.switches.insert(key, switch(&mut words, word)?).is_some()
        } else if let Some(key) = CoalesceNumber::named(word.text) {
            coalesce.numbers.insert(key, number(&mut words, word)?).is_some()
        } else {
            return Err(word.unknown(&[CoalesceSwitch::names(), CoalesceNumber::names()].concat()));
        };
        if twice {
            return Err(word.twice(word.text));
        }
    }
    Ok(coalesce)
}

fn change(mut words: Words<'_>) -> Result<Change, BadWord> {
    let mut change = Change::default();
    while let Some(word) = words.next() {
        let key = ChangeKey::named(word.text).ok_or_else(|| word.unknown(&ChangeKey::names()))?;
        let twice = match key {
            ChangeKey::Speed => change.speed.replace(words.number(word.text, 1..=MAX_SPEED)?).is_some(),
            ChangeKey::Duplex => change.duplex.replace(duplex(&mut words)?).is_some(),
            ChangeKey::Autoneg => change.autoneg.replace(words.switch(word.text)?).is_some(),
        };
        if twice {
            return Err(word.twice(word.text));
        }
    }
    Ok(change)
}

fn duplex(words: &mut Words<'_>) -> Result<Duplex, BadWord> {
    let word = words.value("duplex", &listed(&Duplex::names()))?;
    Duplex::named(word.text).ok_or_else(|| word.no_name("duplex", &Duplex::names()))
}
