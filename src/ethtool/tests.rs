use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn ethtool(text: &str) -> Ethtool {
    Ethtool::parse(text).unwrap_or_else(|err| panic!("{text}: {err:?}"))
}

/// Both texts are the same command, and the second is how it is written.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(ethtool(text).to_string(), expected, "{text}");
    assert_eq!(ethtool(expected), ethtool(text), "{text}");
}

/// `expected` marks with `^` the bytes of `text` that are wrong; then come message and help.
#[track_caller]
fn check_error(text: &str, expected: &str) {
    let bad = Ethtool::parse(text).unwrap_err();
    let marks = format!("{}{}", " ".repeat(bad.at.start), "^".repeat(bad.at.len().max(1)));
    let help = bad.help.unwrap_or_default();
    assert_eq!(format!("{text}\n{marks} {}; {help}", bad.message), format!("{text}\n{expected}"));
}

#[test]
fn every_command_has_its_variant() {
    assert_eq!(ethtool("--offload tx off"), Ethtool::Features(vec![(Feature::TX, false)]));
    assert_eq!(
        ethtool("--set-ring rx 256 tx 512"),
        Ethtool::Ring(BTreeMap::from([(Ring::Rx, 256), (Ring::Tx, 512)]))
    );
    assert_eq!(
        ethtool("--set-channels combined 4"),
        Ethtool::Channels(BTreeMap::from([(Channel::Combined, 4)]))
    );
    assert_eq!(
        ethtool("--coalesce adaptive-rx off rx-usecs 50"),
        Ethtool::Coalesce(Coalesce {
            switches: BTreeMap::from([(CoalesceSwitch::AdaptiveRx, false)]),
            numbers: BTreeMap::from([(CoalesceNumber::RxUsecs, 50)]),
        })
    );
    assert_eq!(
        ethtool("--pause autoneg off rx on"),
        Ethtool::Pause(BTreeMap::from([(Pause::Autoneg, false), (Pause::Rx, true)]))
    );
    assert_eq!(
        ethtool("--change speed 1000 duplex full autoneg off"),
        Ethtool::Change(Change { speed: Some(1000), duplex: Some(Duplex::Full), autoneg: Some(false) })
    );
}

#[test]
fn commands_read_as_ethtool_reads_them() {
    check("-K tx off", "--offload tx off");
    check("--features  tx-checksumming\toff rx on", "--offload tx off rx on");
    check("-K tx-checksum-ip-generic off highdma on", "--offload tx-checksum-ip-generic off highdma on");
    check("-K tso off tx-tcp6-segmentation on", "--offload tso off tx-tcp6-segmentation on");
    check("-G tx 1 rx 0x2 rx-jumbo 3 rx-mini 4", "--set-ring rx 2 rx-mini 4 rx-jumbo 3 tx 1");
    check("-L tx 1 rx 2 other 0", "--set-channels rx 2 tx 1 other 0");
    check(
        "-C sample-interval 4294967295 tx-frames 3 adaptive-tx on",
        "--coalesce adaptive-tx on tx-frames 3 sample-interval 4294967295",
    );
    check("-A tx off rx off", "--pause rx off tx off");
    check("-s autoneg on", "--change autoneg on");
    check("-s duplex half speed 10", "--change speed 10 duplex half");
}

#[test]
fn errors_point_at_the_word_and_say_what_would_be_right() {
    let supported =
        "supported are `--offload`, `--set-ring`, `--set-channels`, `--coalesce`, `--pause` and `--change`";
    check_error("", &format!("^ expected an ethtool command; {supported}"));
    check_error(
        "--set-eee eee on",
        &format!("^^^^^^^^^ ethtool command `--set-eee` is not supported; {supported}"),
    );
    check_error("eth0 -K tx off", &format!("^^^^ ethtool command `eth0` is not supported; {supported}"));
    check_error(
        "--ofload tx off",
        "^^^^^^^^ ethtool command `--ofload` is not supported; did you mean `--offload`?",
    );
    check_error("-K", "  ^ `-K` needs a setting; write `-K tx off`");
    check_error("--set-ring ", "          ^ `--set-ring` needs a setting; write `--set-ring rx 512 tx 512`");
    check_error("-K tx", "     ^ `tx` needs a value; `tx` takes `on` or `off`");
    check_error("-K tx of", "      ^^ `tx` cannot be `of`; `tx` takes `on` or `off`");
    check_error("-K gsso on", "   ^^^^ unknown feature `gsso`; did you mean `gso`?");
    check_error(
        "-K eth0 tx off",
        "   ^^^^ unknown feature `eth0`; expected `rx`, `tx`, `sg`, `tso`, `ufo`, `gso`, `gro`, `lro`, `rxvlan`, `txvlan`, \
         `ntuple` or `rxhash`, or the kernel's name of a feature",
    );
    check_error(
        "-K tx off tx-checksumming on",
        "          ^^^^^^^^^^^^^^^ `tx` is given twice; remove one `tx`",
    );
    check_error("-G rx 5 rxjumbo 3", "        ^^^^^^^ unknown word `rxjumbo`; did you mean `rx-jumbo`?");
    check_error("-G rx many", "      ^^^^ `rx` cannot be `many`; `rx` takes a number from 0 to 4294967295");
    check_error("-L rx 1 rx 2", "        ^^ `rx` is given twice; remove one `rx`");
    check_error("-C rx-usec 1", "   ^^^^^^^ unknown word `rx-usec`; did you mean `rx-usecs`?");
    check_error(
        "-C rx-usecs 1 rx-usecs 1",
        "              ^^^^^^^^ `rx-usecs` is given twice; remove one `rx-usecs`",
    );
    check_error("-A link on", "   ^^^^ unknown word `link`; expected `autoneg`, `rx` or `tx`");
    check_error("-s port tp", "   ^^^^ unknown word `port`; expected `speed`, `duplex` or `autoneg`");
    check_error("-s duplex ful", "          ^^^ `duplex` cannot be `ful`; did you mean `full`?");
    check_error(
        "-s speed 0",
        "         ^ `speed` cannot be `0`; `speed` takes a number from 1 to 2147483647",
    );
    check_error("-s speed 1 speed 2", "           ^^^^^ `speed` is given twice; remove one `speed`");
}

fn one_of<T: Copy + fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

/// Anything that [`Ethtool::parse`] can return.
fn any_ethtool() -> impl Strategy<Value = Ethtool> {
    let features = vec((select(Feature::names()), any::<bool>()), 1..5).prop_map(|pairs| {
        let mut features: Vec<(Feature, bool)> = Vec::new();
        for (name, on) in pairs {
            let feature = Feature::named(name).unwrap();
            if features.iter().all(|(it, _)| *it != feature) {
                features.push((feature, on));
            }
        }
        Ethtool::Features(features)
    });
    let coalesce = (
        btree_map(one_of(CoalesceSwitch::ALL), any::<bool>(), 0..5),
        btree_map(one_of(CoalesceNumber::ALL), any::<u32>(), 1..9),
    );
    let change = (option::of(1..=i32::MAX as u32), option::of(one_of(Duplex::ALL)), any::<bool>());
    prop_oneof![
        features,
        btree_map(one_of(Ring::ALL), any::<u32>(), 1..5).prop_map(Ethtool::Ring),
        btree_map(one_of(Channel::ALL), any::<u32>(), 1..5).prop_map(Ethtool::Channels),
        coalesce.prop_map(|(switches, numbers)| Ethtool::Coalesce(Coalesce { switches, numbers })),
        btree_map(one_of(Pause::ALL), any::<bool>(), 1..4).prop_map(Ethtool::Pause),
        change.prop_map(|(speed, duplex, on)| Ethtool::Change(Change { speed, duplex, autoneg: Some(on) })),
    ]
}

fn words() -> Vec<&'static str> {
    let commands = ["--offload", "-K", "-G", "-L", "-C", "-A", "-s"];
    let settings = [
        "rx",
        "tx",
        "combined",
        "rx-usecs",
        "adaptive-rx",
        "autoneg",
        "speed",
        "duplex",
        "full",
        "on",
        "off",
        "7",
    ];
    commands.into_iter().chain(settings).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(ethtool in any_ethtool()) {
        prop_assert_eq!(Ethtool::parse(&ethtool.to_string()), Ok(ethtool));
    }

    #[test]
    fn no_text_is_too_odd(text in any::<String>()) {
        let _ = Ethtool::parse(&text);
    }

    #[test]
    fn no_words_are_too_odd(words in vec(prop_oneof![select(words()).prop_map(str::to_owned), any::<String>()], 0..9)) {
        let text = words.join(" ");
        match Ethtool::parse(&text) {
            Ok(ethtool) => prop_assert_eq!(Ethtool::parse(&ethtool.to_string()), Ok(ethtool)),
            Err(bad) => prop_assert!(text.get(bad.at.clone()).is_some(), "{:?}", bad),
        }
    }
}
