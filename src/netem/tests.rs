use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn netem(text: &str) -> Netem {
    Netem::parse(text).unwrap_or_else(|err| panic!("{text}: {err:?}"))
}

/// Both texts are the same, and the second is how it is written.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(netem(text).to_string(), expected, "{text}");
    assert_eq!(netem(expected), netem(text), "{text}");
}

/// `expected` marks with `^` the bytes of `text` that are wrong; then come message and help.
#[track_caller]
fn check_error(text: &str, expected: &str) {
    let bad = Netem::parse(text).unwrap_err();
    let marks = format!("{}{}", " ".repeat(bad.at.start), "^".repeat(bad.at.len().max(1)));
    let help = bad.help.unwrap_or_default();
    assert_eq!(format!("{text}\n{marks} {}; {help}", bad.message), format!("{text}\n{expected}"));
}

fn percent(text: &str) -> Percent {
    match netem(&format!("loss {text}")).loss {
        Some(Loss::Random(it)) => it.percent,
        _ => Percent(0),
    }
}

fn chance(text: &str, correlation: &str) -> Chance {
    Chance { percent: percent(text), correlation: percent(correlation) }
}

#[test]
fn every_word_has_its_field() {
    assert_eq!(
        netem(
            "limit 2k delay 40ms 5ms 25% distribution pareto loss 0.3% 10% ecn corrupt 1% duplicate 2% 3% \
             reorder 25% 50% gap 5 rate 10mbit -4 53 5 slot 1ms 2ms packets 7 bytes 64k seed 42"
        ),
        Netem {
            limit: 2048,
            delay: Some(Delay {
                time: Nanos(40_000_000),
                jitter: Nanos(5_000_000),
                correlation: percent("25%"),
                distribution: Some(Distribution::Pareto),
            }),
            loss: Some(Loss::Random(chance("0.3%", "10%"))),
            ecn: true,
            corrupt: Some(chance("1%", "0%")),
            duplicate: Some(chance("2%", "3%")),
            reorder: Some(Reorder { chance: chance("25%", "50%"), gap: 5 }),
            rate: Some(Rate { bytes: 1_250_000, packet_overhead: -4, cell_size: 53, cell_overhead: 5 }),
            slot: Some(Slot {
                delay: SlotDelay::Between { min: Nanos(1_000_000), max: Nanos(2_000_000) },
                packets: Some(7),
                bytes: Some(65536),
            }),
            seed: Some(42),
        }
    );
    assert_eq!(netem(""), Netem::default());
    assert_eq!(Netem::default().limit, 1000);
}

#[test]
fn options_read_as_tc_reads_them() {
    check("", "");
    check("limit 1000", "");
    check("latency 100ms", "delay 100ms");
    check("delay 1500", "delay 1500us");
    check("delay 0.5s 20ms 25", "delay 500ms 20ms 25%");
    check("delay 10ms 2ms distribution normal", "delay 10ms 2ms distribution normal");
    check("distribution paretonormal delay 10ms 2ms", "delay 10ms 2ms distribution paretonormal");
    check("delay 10ms 2ms distribution uniform", "delay 10ms 2ms");
    check("loss random 1%", "loss 1%");
    check("drop 1% 2%", "loss 1% 2%");
    check("loss state 5%", "loss state 5% 95% 0% 100% 0%");
    check("loss state 5% 90% 1% 80% 2%", "loss state 5% 90% 1% 80% 2%");
    check("loss gemodel 1%", "loss gemodel 1% 99% 100% 0%");
    check("loss gemodel 1% 10% 70% 0.1%", "loss gemodel 1% 10% 70% 0.1%");
    check("ecn loss 1%", "loss 1% ecn");
    check("reorder 25% delay 10ms", "delay 10ms reorder 25%");
    check("gap 5 delay 10ms reorder 25% 50%", "delay 10ms reorder 25% 50% gap 5");
    check("rate 125kbps", "rate 1mbit");
    check("rate 1mbit 14", "rate 1mbit 14");
    check("rate 1mbit 0x10 53", "rate 1mbit 16 53");
    check("rate 1mbit -5 53 -3 delay 1ms", "delay 1ms rate 1mbit -5 53 -3");
    check("slot 800us", "slot 800us");
    check("slot 800", "slot 800ns");
    check("slot 1ms 5ms bytes 10k packets 3", "slot 1ms 5ms packets 3 bytes 10240");
    check("slot distribution pareto 5ms 1ms packets 3", "slot distribution pareto 5ms 1ms packets 3");
    check("seed 0xff", "seed 255");
}

#[test]
fn settings_that_the_kernel_holds_alike_are_equal() {
    check("delay 0 loss 0% corrupt 0% 5% duplicate 0% rate 8bit slot 0", "rate 8bit");
    check("delay 10ms 0ms 25%", "delay 10ms");
    check("delay 10s 5s", "delay 10s 2147483647ns");
    check("delay 10ms reorder 5% gap 1", "delay 10ms reorder 5%");
    check("delay 10ms reorder 5% gap 0", "delay 10ms reorder 5%");
    check("reorder 0% gap 0", "");
    check("slot 5ms 5ms", "slot 5ms");
    check("slot distribution uniform 5ms 1ms", "slot 4ms 6ms");
    check("slot distribution normal 5ms 10s", "slot distribution normal 5ms 2147483647ns");
}

#[test]
fn an_option_that_comes_again_replaces_what_it_said() {
    check("delay 10ms 5ms delay 20ms", "delay 20ms");
    check("limit 5 rate 1mbit 3 limit 7 rate 2mbit", "limit 7 rate 2mbit");
    check("delay 10ms reorder 5% reorder 0%", "delay 10ms");
    check("loss 0% loss 1%", "loss 1%");
    check_error("loss 1% drop 2%", "        ^^^^ `loss` is given twice; remove one `loss`");
}

#[test]
fn errors_point_at_the_word_and_say_what_would_be_right() {
    check_error("delya 10ms", "^^^^^ unknown word `delya`; did you mean `delay`?");
    check_error("dup 10%", "^^^ unknown word `dup`; did you mean `duplicate`?");
    check_error(
        "10ms",
        "^^^^ unknown word `10ms`; expected `limit`, `delay`, `distribution`, `loss`, `ecn`, `corrupt`, `duplicate`, `reorder`, \
         `gap`, `rate`, `slot` or `seed`",
    );
    check_error(
        "delay",
        "     ^ `delay` needs a value; `delay` takes a time like `40ms`, in `s`, `ms`, `us` or `ns`",
    );
    check_error(
        "latency 10m",
        "        ^^^ `latency` cannot be `10m`; `latency` takes a time like `40ms`, in `s`, `ms`, `us` or `ns`",
    );
    check_error(
        "delay 5ms 1ms 120",
        "              ^^^ `delay` cannot be `120`; `delay` takes a percentage from 0% to 100%, like `0.3%`",
    );
    check_error(
        "loss 130%",
        "     ^^^^ `loss` cannot be `130%`; `loss` takes a percentage from 0% to 100%, like `0.3%`",
    );
    check_error("loss stat 3%", "     ^^^^ `loss` cannot be `stat`; did you mean `state`?");
    check_error(
        "loss -1",
        "     ^^ `loss` cannot be `-1`; `loss` takes a percentage, or one after `random`, `state` or `gemodel`",
    );
    check_error(
        "loss",
        "    ^ `loss` needs a value; `loss` takes a percentage, or one after `random`, `state` or `gemodel`",
    );
    check_error(
        "loss gemodel",
        "            ^ `loss gemodel` needs a value; `loss gemodel` takes a percentage from 0% to 100%, like `0.3%`",
    );
    check_error(
        "delay 1ms 1ms distribution experimental",
        "                           ^^^^^^^^^^^^ `distribution` cannot be `experimental`; its table is measured and part of \
         iproute2 alone; `paretonormal` is computed",
    );
    check_error(
        "delay 1ms 1ms distribution gauss",
        "                           ^^^^^ `distribution` cannot be `gauss`; `distribution` takes `uniform`, `normal`, `pareto` or \
         `paretonormal`",
    );
    check_error(
        "limit -1",
        "      ^^ `limit` cannot be `-1`; `limit` takes a number from 0 to 4294967295, or one like `10k`",
    );
    assert_eq!(Netem::parse("rate 1mbit 5 5 5 5").unwrap_err().at, 17..18);
}

#[test]
fn errors_of_rates_and_slots() {
    check_error(
        "rate 10mb",
        "     ^^^^ `rate` cannot be `10mb`; `rate` takes bits per second, like `10mbit`, or bytes per second, like `125kbps`",
    );
    check_error(
        "rate 50%",
        "     ^^^ `rate` cannot be `50%`; `rate` takes bits per second, like `10mbit`, not a percentage",
    );
    check_error(
        "rate 1mbit 3 -5",
        "             ^^ `rate … CELLSIZE` cannot be `-5`; `rate … CELLSIZE` takes a number from 0 to 4294967295",
    );
    check_error(
        "slot packets 3",
        "     ^^^^^^^ `slot` cannot be `packets`; `slot` takes a time like `800us`, or `distribution NAME DELAY JITTER`",
    );
    check_error(
        "slot 10ms 5ms",
        "          ^^^ `slot MIN MAX` cannot be `5ms`; `slot MIN MAX` takes the smaller time first",
    );
    check_error(
        "slot 5ms packets 0",
        "                 ^ `packets` cannot be `0`; `packets` takes a number from 1 to 2147483646",
    );
    check_error(
        "slot 5ms packets 1 packets 2",
        "                   ^^^^^^^ `packets` is given twice; remove one `packets`",
    );
    check_error(
        "slot distribution pareto 5ms 0",
        "                             ^ `slot distribution` cannot be `0`; `slot distribution` takes a jitter above zero",
    );
    check_error(
        "slot distribution uniform 5ms 6ms",
        "                              ^^^ `slot distribution uniform` cannot be `6ms`; `slot distribution uniform` takes a jitter \
         no greater than the delay",
    );
}

#[test]
fn errors_of_what_does_not_go_together() {
    let jitter = "`distribution` needs a delay with a jitter; write `delay TIME JITTER distribution NAME`";
    check_error("distribution normal", &format!("^^^^^^^^^^^^ {jitter}"));
    check_error("delay 10ms distribution normal", &format!("           ^^^^^^^^^^^^ {jitter}"));
    let delay = "`reorder` needs a delay, for packets to overtake; write `delay TIME reorder PERCENT`";
    check_error("reorder 25%", &format!("^^^^^^^ {delay}"));
    check_error("delay 0ms reorder 25%", &format!("          ^^^^^^^ {delay}"));
    check_error(
        "delay 10ms gap 5",
        "           ^^^ `gap` needs a reorder, whose distance it is; write `reorder PERCENT gap 5`",
    );
    let loss = "`ecn` needs a loss, whose packets are marked instead; write `loss PERCENT ecn`";
    check_error("delay 1ms ecn", &format!("          ^^^ {loss}"));
    check_error("loss 0% ecn", &format!("        ^^^ {loss}"));
}

#[test]
fn what_a_kernel_keeps_to_itself_is_told_apart() {
    for (text, observable, hidden) in [
        ("", "", None),
        ("delay 10ms 2ms 5% loss 1% ecn rate 1mbit", "delay 10ms 2ms 5% loss 1% ecn rate 1mbit", None),
        ("delay 10ms 2ms distribution pareto", "delay 10ms 2ms", Some("distribution pareto")),
        ("slot 1ms 2ms", "slot 1ms 2ms", None),
        (
            "slot distribution normal 5ms 1ms packets 3",
            "slot distribution normal 5ms 1ms packets 3",
            Some("slot-distribution normal"),
        ),
        ("loss 1% seed 7", "loss 1%", Some("seed 7")),
        (
            "delay 10ms 2ms distribution normal slot distribution paretonormal 5ms 1ms seed 7",
            "delay 10ms 2ms slot distribution normal 5ms 1ms",
            Some("distribution normal slot-distribution paretonormal seed 7"),
        ),
    ] {
        let netem = netem(text);
        assert_eq!(netem.observable().to_string(), observable, "{text}");
        assert_eq!(netem.hidden().as_deref(), hidden, "{text}");
        assert_eq!(netem.observable().observable(), netem.observable(), "{text}");
    }
}

fn any_percent() -> impl Strategy<Value = Percent> + Clone {
    prop_oneof![any::<u32>(), 0_u32..3, (u32::MAX - 3)..=u32::MAX].prop_map(Percent)
}

fn any_chance() -> impl Strategy<Value = Chance> {
    (any_percent(), any_percent())
        .prop_map(|(percent, correlation)| Chance { percent: Percent(percent.0.max(1)), correlation })
}

/// Up to what a text can say, in all units.
fn nanos(most: i64) -> impl Strategy<Value = Nanos> {
    let unit = select(vec![1, 1000, 1_000_000, 1_000_000_000]);
    (1_i64..=most, unit).prop_map(move |(nanos, unit)| Nanos((nanos / unit * unit).max(1)))
}

fn any_distribution() -> impl Strategy<Value = Distribution> {
    select(Distribution::ALL.as_slice())
}

fn any_delay() -> impl Strategy<Value = Delay> {
    let jitter = option::of((nanos(MAX_JITTER.0), any_percent(), option::of(any_distribution())));
    (nanos(1 << 53), jitter).prop_map(|(time, jitter)| match jitter {
        Some((jitter, correlation, distribution)) => Delay { time, jitter, correlation, distribution },
        None => Delay { time, jitter: Nanos(0), correlation: Percent(0), distribution: None },
    })
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let percents = proptest::array::uniform5(any_percent());
    prop_oneof![
        any_chance().prop_map(Loss::Random),
        percents.clone().prop_map(|[p13, p31, p32, p23, p14]| Loss::State { p13, p31, p32, p23, p14 }),
        percents.prop_map(|[p, r, one_minus_h, one_minus_k, _]| Loss::Gemodel {
            p,
            r,
            one_minus_h,
            one_minus_k
        }),
    ]
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let delay = prop_oneof![
        (nanos(1 << 40), nanos(1 << 40))
            .prop_map(|(a, b)| SlotDelay::Between { min: a.min(b), max: a.max(b) }),
        (any_distribution(), nanos(1 << 40), nanos(MAX_JITTER.0)).prop_map(
            |(distribution, delay, jitter)| SlotDelay::Distribution { distribution, delay, jitter }
        ),
    ];
    let limit = option::of(1..=Slot::MAX);
    (delay, limit.clone(), limit).prop_map(|(delay, packets, bytes)| Slot { delay, packets, bytes })
}

/// Anything that [`Netem::parse`] can return.
pub(crate) fn any_netem() -> impl Strategy<Value = Netem> {
    let rate = (1_u64..=1 << 50, any::<i32>(), any::<u32>(), any::<i32>(), 0..4).prop_map(
        |(bytes, packet_overhead, cell_size, cell_overhead, zeros)| Rate {
            bytes: if zeros == 0 { (bytes / 125_000).max(1) * 125_000 } else { bytes },
            packet_overhead,
            cell_size: if zeros > 1 { 0 } else { cell_size },
            cell_overhead: if zeros > 2 { 0 } else { cell_overhead },
        },
    );
    let reorder = (any_chance(), 1_u32..).prop_map(|(chance, gap)| Reorder { chance, gap });
    (
        (any::<u32>(), option::of(any_delay()), option::of(any_loss()), any::<bool>()),
        (option::of(any_chance()), option::of(any_chance()), option::of(reorder)),
        (option::of(rate), option::of(any_slot()), option::of(any::<u64>())),
    )
        .prop_map(|((limit, delay, loss, ecn), (corrupt, duplicate, reorder), (rate, slot, seed))| {
            Netem {
                limit,
                delay,
                loss,
                ecn: ecn && loss.is_some(),
                corrupt,
                duplicate,
                reorder: reorder.filter(|_| delay.is_some()),
                rate,
                slot,
                seed,
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(netem in any_netem()) {
        prop_assert_eq!(Netem::parse(&netem.to_string()), Ok(netem));
    }

    #[test]
    fn no_text_is_too_odd(text in any::<String>()) {
        let _ = Netem::parse(&text);
    }

    #[test]
    fn no_words_are_too_odd(words in proptest::collection::vec(
        prop_oneof![select(words()), "[0-9]{1,20}(\\.[0-9]{0,9})?(e[0-9]{1,3})?(ms|us|s|%|mbit|kbps|k)?", any::<String>()],
        0..12,
    )) {
        let text = words.join(" ");
        match Netem::parse(&text) {
            Ok(netem) => prop_assert_eq!(Netem::parse(&netem.to_string()), Ok(netem)),
            Err(bad) => prop_assert!(text.get(bad.at.clone()).is_some(), "{:?}", bad),
        }
    }
}

fn words() -> Vec<String> {
    let words = "limit delay distribution uniform normal loss random state gemodel ecn corrupt duplicate reorder gap rate slot \
                 packets bytes seed 1ms 10 25% 0 1mbit -3";
    words.split(' ').map(str::to_owned).collect()
}
