use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use expect_test::expect_file;
use proptest::prelude::*;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, Nla};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use super::*;
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::{link, netns};
use crate::netem::tests::any_netem;

/// One set of options that was given to `tc` (see `tests/data/netem/capture.sh`).
struct Capture {
    text: String,
    /// TCA_OPTIONS as sent by `tc`, or its error.
    sent: Result<String, String>,
    /// TCA_OPTIONS as then reported by the kernel.
    reported: Option<String>,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/netem").join(name)
}

fn captures() -> Vec<Capture> {
    // Included in the binary, because it also runs on machines without the source.
    let text = include_str!("../../../tests/data/netem/captures.txt");
    let mut captures: Vec<Capture> = Vec::new();
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("> ", hex)) => captures.last_mut().unwrap().sent = Ok(hex.to_owned()),
            Some(("! ", why)) => captures.last_mut().unwrap().sent = Err(why.to_owned()),
            Some(("< ", hex)) => captures.last_mut().unwrap().reported = Some(hex.to_owned()),
            _ => captures.push(Capture {
                text: line.to_owned(),
                sent: Err("nothing was captured".to_owned()),
                reported: None,
            }),
        }
    }
    captures
}

/// The format of `captures.txt`: tables are given by their length.
fn hex(options: &[u8]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, it| text + &format!("{it:02x}"));
    let (prefix, attributes) = options.split_at(24);
    let mut text = digits(prefix);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.unwrap();
        let value = match attribute.kind() {
            DELAY_DIST | SLOT_DIST => format!("[{}]", attribute.value_length()),
            _ => digits(attribute.value()),
        };
        let kind = attribute.kind() | if attribute.nested_flag() { NESTED } else { 0 };
        text += &digits(&attribute.length().to_ne_bytes());
        text += &digits(&kind.to_ne_bytes());
        text += &value;
    }
    text
}

/// Without the tables.
fn unhex(text: &str) -> Vec<u8> {
    let text = text.replace("04200200[8192]", "").replace("04200d00[8192]", "");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn options_are_sent_as_tc_sends_them_with_known_exceptions() {
    let mut differences = String::new();
    let mut same = 0;
    for Capture { text, sent, .. } in captures() {
        let ours = Netem::parse(&text).map(|it| hex(&encode(&it)));
        match (&ours, &sent) {
            (Ok(ours), Ok(sent)) if ours == sent => same += 1,
            (Err(_), Err(_)) => {}
            _ => {
                let or = |it: Result<String, String>, what| it.unwrap_or_else(|why| format!("{what}: {why}"));
                let ours = or(ours.map_err(|it| it.message), "refused");
                writeln!(differences, "{text}\n  tc   {}\n  ours {ours}", or(sent, "refused")).unwrap();
            }
        }
    }
    assert!(same >= 50, "{same}");
    expect_file![data("sent.txt")].assert_eq(&differences);
}

#[test]
fn options_of_tc_and_of_the_kernel_are_decoded_with_known_exceptions() {
    let mut differences = String::new();
    let mut same = 0;
    for Capture { text, sent, reported } in captures() {
        let Ok(netem) = Netem::parse(&text) else { continue };
        if let (Ok(sent), Some(reported)) = (sent, reported) {
            assert_eq!(hex(&unhex(&reported)), reported, "{text}");
            let decoded = decode(&unhex(&reported)).unwrap();
            assert_eq!(decode(&unhex(&sent)).map(|it| it.observable()), Some(decoded.clone()), "{text}");
            if decoded == netem.observable() {
                same += 1;
            } else {
                writeln!(differences, "{text}\n  read {decoded}").unwrap();
            }
        }
    }
    assert!(same >= 50, "{same}");
    expect_file![data("reported.txt")].assert_eq(&differences);
}

#[test]
fn sent_options_are_decoded_to_the_same_netem() {
    for text in captures().into_iter().map(|it| it.text).chain(["".to_owned()]) {
        let Ok(netem) = Netem::parse(&text) else { continue };
        assert_eq!(decode(&encode(&netem)), Some(netem.observable()), "{text}");
        assert_eq!(decode(&encode_change(&netem)), Some(netem.observable()), "{text}");
    }
}

/// A change must have all of these attributes, whatever is set.
#[test]
fn a_change_sends_every_attribute() {
    for text in captures().into_iter().map(|it| it.text).chain(["".to_owned()]) {
        let Ok(netem) = Netem::parse(&text) else { continue };
        let options = encode_change(&netem);
        let kinds: Vec<u16> = NlasIterator::new(&options[24..]).map(|it| it.unwrap().kind()).collect();
        for kind in [CORR, REORDER, ECN, CORRUPT, SLOT, RATE, PRNG_SEED] {
            assert!(kinds.contains(&kind), "{text}: {kind}");
        }
        let varies = netem.delay.is_some_and(|it| !it.jitter.is_zero());
        assert_eq!(kinds.contains(&DELAY_DIST), varies, "{text}");
        assert_eq!(kinds.contains(&SLOT_DIST), netem.slot.is_some(), "{text}");
        assert!(options.len() < usize::from(u16::MAX) - 4, "{text}");
    }
    let seedless = Netem::default();
    assert_ne!(encode_change(&seedless), encode_change(&seedless), "an old seed is replaced by a random one");
}

#[test]
fn invalid_options_are_not_decoded() {
    let whole = encode(&Netem::parse("delay 10ms loss state 1% slot 1ms 2ms rate 40gbit").unwrap());
    for length in 0..whole.len() {
        // Cut between two attributes, it is a valid netem with fewer options.
        let _ = decode(&whole[..length]);
    }
    assert_eq!(decode(&whole[..23]), None);
    assert_eq!(decode(&whole[..whole.len() - 1]), None);
    let with = |kind: u16, value: &[u8]| {
        let mut options = Attributes::after(encode(&Netem::default()));
        options.bytes(kind, value);
        decode(options.as_bytes())
    };
    assert_eq!(with(CORR, &[0; 8]), None);
    assert_eq!(with(LATENCY64, &(-1_i64).to_ne_bytes()), None);
    assert_eq!(with(LOSS, &[]), None);
    assert_eq!(with(LOSS, &[4, 0, 9, 0]), None);
    // Newer kernels also report PAD and a seed, whether it was given or drawn.
    assert_eq!(with(9, &[]), Some(Netem::default()));
    assert_eq!(with(PRNG_SEED, &[7; 8]), Some(Netem::default()));
    assert_eq!(with(99, &[1, 2, 3, 4]), Some(Netem::default()));
}

/// The distribution files of iproute2, if installed.
fn distribution_file(name: &str) -> Option<Vec<i16>> {
    let folders =
        ["/usr/lib/tc", "/usr/lib64/tc", "/usr/lib/x86_64-linux-gnu/tc", "/usr/lib/aarch64-linux-gnu/tc"];
    let text = folders.iter().find_map(|it| fs::read_to_string(format!("{it}/{name}.dist")).ok())?;
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    let mut table: Vec<i16> = lines.flat_map(str::split_whitespace).map(|it| it.parse().unwrap()).collect();
    table.sort_unstable();
    Some(table)
}

#[test]
fn tables_are_those_of_iproute2_on_average() {
    for (distribution, most) in
        [(Distribution::Normal, 7), (Distribution::Pareto, 5), (Distribution::ParetoNormal, 32)]
    {
        let name = distribution.name();
        let table = table::of(Some(distribution));
        assert!(table.is_sorted());
        let Some(file) = distribution_file(name) else {
            skip(&format!("the table of {name}"), "the files of iproute2 are not installed");
            continue;
        };
        assert_eq!(table.len(), file.len());
        let far: i32 = table.iter().zip(&file).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).sum();
        assert!(far <= most * 4096, "{name}: {}", f64::from(far) / 4096.0);
    }
}

#[test]
fn each_table_has_its_distribution() {
    let moments = |table: &[i16]| {
        let n = table.len() as f64;
        let mean = table.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
        let variance = table.iter().map(|it| (f64::from(*it) - mean).powi(2)).sum::<f64>() / n;
        (mean / 8192.0, variance.sqrt() / 8192.0)
    };
    let normal = table::of(Some(Distribution::Normal));
    let (mean, deviation) = moments(normal);
    assert!(mean.abs() < 1e-4 && (deviation - 1.0).abs() < 1e-3, "{mean} {deviation}");
    assert!(normal.iter().zip(normal.iter().rev()).all(|(low, high)| *low == -*high));
    // Known points of the normal distribution: 84.13% lie below one deviation, 97.72% below two.
    for (share, expected) in [(0.8413, 1.0), (0.9772, 2.0), (0.99865, 3.0)] {
        let entry = f64::from(normal[(share * 4096.0) as usize]) / 8192.0;
        assert!((entry - expected).abs() < 0.03, "{share}: {entry}");
    }
    let uniform = table::of(None);
    let (mean, deviation) = moments(uniform);
    assert!(mean == 0.0 && (deviation - 3_f64.sqrt().recip()).abs() < 1e-4, "{mean} {deviation}");
    assert_eq!((uniform[0], uniform[4095]), (-8190, 8190));
    assert!(uniform.windows(2).all(|it| it[1] - it[0] == 4));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sent_netem_is_decoded_to_the_same(netem in any_netem()) {
        prop_assert_eq!(decode(&encode(&netem)), Some(netem.observable()));
        prop_assert_eq!(decode(&encode_change(&netem)), Some(netem.observable()));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(netem) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&netem)), Some(netem.observable()));
        }
    }
}

/// The same as `support::skip` of the integration tests.
fn skip(what: &str, reason: &str) {
    assert!(std::env::var_os("CONLINK_TEST_ALL").is_none(), "{what} must not be skipped: {reason}");
    let mut tty = File::options().append(true).open("/proc/self/fd/2").unwrap();
    io::Write::write_all(&mut tty, format!("\nSKIP {what}: {reason}\n").as_bytes()).unwrap();
}

/// The interface `lo` of a new namespace, up.
struct Lo {
    netns: File,
    netlink: Netlink,
}

impl Lo {
    const INDEX: u32 = 1;

    /// None with a SKIP line if the kernel has no netem.
    fn new(what: &str) -> Option<Self> {
        let netns = match netns::anonymous() {
            Ok(netns) => netns,
            Err(error) => {
                skip(what, &format!("no network namespace can be made: {error}"));
                return None;
            }
        };
        let mut netlink = netns::inside(&netns, Netlink::open).unwrap();
        link::up(&mut netlink, Self::INDEX).unwrap();
        let mut lo = Self { netns, netlink };
        match lo.add(&encode(&Netem::default())) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                skip(what, "the kernel has no netem");
                None
            }
            result => {
                result.unwrap();
                lo.del();
                Some(lo)
            }
        }
    }

    fn message() -> TcMessage {
        let mut message = TcMessage::with_index(Self::INDEX.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message
    }

    fn new_qdisc(&mut self, options: &[u8], flags: u16) -> Result<(), Error> {
        let mut message = Self::message();
        message.attributes = vec![
            TcAttribute::Kind("netem".to_owned()),
            TcAttribute::Other(DefaultNla::new(2, options.to_vec())),
        ];
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        self.netlink.request(message, flags, || "set netem".to_owned())
    }

    fn add(&mut self, options: &[u8]) -> Result<(), Error> {
        self.new_qdisc(options, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn change(&mut self, options: &[u8]) {
        self.new_qdisc(options, 0).unwrap();
    }

    fn del(&mut self) {
        let message = RouteNetlinkMessage::DelQueueDiscipline(Self::message());
        self.netlink.request(message, 0, || "delete netem".to_owned()).unwrap();
    }

    /// The reported TCA_OPTIONS.
    fn reported(&mut self) -> Vec<u8> {
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let all = self.netlink.dump(message, || "dump queueing disciplines".to_owned()).unwrap();
        let options = all.into_iter().find_map(|it| match it {
            RouteNetlinkMessage::NewQueueDiscipline(it) => {
                it.attributes.into_iter().find_map(|it| match it {
                    TcAttribute::Options(options) => options.into_iter().find_map(|it| match it {
                        TcOption::Other(nla) => Some(nla),
                        _ => None,
                    }),
                    _ => None,
                })
            }
            _ => None,
        });
        let options = options.unwrap();
        let mut bytes = vec![0; options.value_len()];
        options.emit_value(&mut bytes);
        bytes
    }

    fn socket(&self) -> UdpSocket {
        let socket = netns::inside(&self.netns, || UdpSocket::bind("127.0.0.1:0")).unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// The delays of packets that are sent at the same time.
    fn delays(&self, packets: u8) -> Vec<Duration> {
        let socket = self.socket();
        let mut sent = Vec::new();
        for number in 0..packets {
            sent.push(Instant::now());
            socket.send(&[number]).unwrap();
        }
        let mut delays = Vec::new();
        for _ in 0..packets {
            let mut number = [0];
            socket.recv(&mut number).unwrap();
            delays.push(sent[usize::from(number[0])].elapsed());
        }
        delays
    }
}

/// All options that conlink accepts, without duplicates.
fn netems() -> Vec<Netem> {
    let mut netems: Vec<Netem> = Vec::new();
    for Capture { text, .. } in captures() {
        if let Ok(netem) = Netem::parse(&text)
            && !netems.contains(&netem)
        {
            netems.push(netem);
        }
    }
    netems
}

#[test]
fn the_kernel_reports_the_netem_that_was_set() {
    let Some(mut lo) = Lo::new("what the kernel reports of a netem") else { return };
    for netem in netems() {
        lo.add(&encode(&netem)).unwrap_or_else(|error| panic!("{netem}: {error}"));
        assert_eq!(decode(&lo.reported()), Some(netem.observable()), "{netem}");
        lo.change(&encode_change(&netem));
        assert_eq!(decode(&lo.reported()), Some(netem.observable()), "changed to itself: {netem}");
        lo.del();
    }
}

#[test]
fn a_change_in_place_leaves_no_old_parameter() {
    let Some(mut lo) = Lo::new("a change of a netem") else { return };
    let netems = netems();
    let changes: Vec<Vec<u8>> = netems.iter().map(encode_change).collect();
    for (old, old_change) in netems.iter().zip(&changes) {
        lo.add(&encode(old)).unwrap();
        for (new, new_change) in netems.iter().zip(&changes) {
            lo.change(new_change);
            assert_eq!(decode(&lo.reported()), Some(new.observable()), "{old}, then {new}");
            lo.change(old_change);
        }
        lo.del();
    }
}

/// Tables are not reported, so their effect is tested.
#[test]
fn a_change_in_place_leaves_no_table() {
    let Some(mut lo) = Lo::new("tables in a change of a netem") else { return };
    let netem = |text: &str| Netem::parse(text).unwrap();
    // A sixth of a normal distribution is more than one jitter below its mean.
    lo.add(&encode(&netem("delay 150ms 100ms distribution normal"))).unwrap();
    let least = lo.delays(200).into_iter().min().unwrap();
    assert!(least < Duration::from_millis(49), "{least:?}");
    lo.change(&encode_change(&netem("delay 150ms 100ms")));
    let delays = lo.delays(200);
    let least = delays.iter().min().unwrap();
    assert!(*least >= Duration::from_millis(49), "{least:?}");
    assert!(*least < Duration::from_millis(80), "uniform delays come near their bounds: {least:?}");
    // A new table replaces the uniform one.
    lo.change(&encode_change(&netem("delay 150ms 100ms distribution normal")));
    let least = lo.delays(200).into_iter().min().unwrap();
    assert!(least < Duration::from_millis(49), "{least:?}");
    lo.del();

    // The kernel uses the bounds of slots only without a table.
    lo.add(&encode(&netem("slot distribution normal 1us 1us"))).unwrap();
    for text in ["slot 100ms", "slot 100ms 110ms"] {
        lo.change(&encode_change(&netem(text)));
        for _ in 0..3 {
            let delay = lo.delays(1);
            assert!(delay[0] >= Duration::from_millis(99), "{text}: {delay:?}");
        }
    }
    lo.change(&encode_change(&Netem::default()));
    let delays: Vec<Duration> = (0..5).flat_map(|_| lo.delays(1)).collect();
    assert!(delays.iter().any(|it| *it < Duration::from_millis(50)), "{delays:?}");
}

#[test]
fn a_reported_seed_is_found() {
    let seeded = Netem { seed: Some(7), ..Netem::default() };
    assert!(has_seed(&encode(&seeded)));
    // Before Linux 6.6 no seed is reported; a truncated answer has none either.
    assert!(!has_seed(&encode(&Netem::default())) && !has_seed(&[0; 10]));
}
