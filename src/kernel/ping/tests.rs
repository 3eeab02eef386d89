use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::message::{self, Echo, Reason, behind_ip, is_start_of};
use super::socket::Received;
use super::{Answer, Sent, answer, payload};

#[test]
fn a_request_has_the_bytes_of_the_rfc() {
    let echo = Echo { kind: message::V4.request, id: 0x1234, seq: 7, payload: b"abc" };
    // 0800 + 1234 + 0007 + 6162 + 6300 = de9d; its complement is 2162.
    let bytes = [8, 0, 0x21, 0x62, 0x12, 0x34, 0, 7, b'a', b'b', b'c'];
    assert_eq!(echo.encode(), bytes);
    assert_eq!(Echo::decode(&bytes), Some(echo));
    // Carries are added until there are none: ffff + ffff + … + 0800 + ffff.
    let full = Echo { kind: 8, id: 0xffff, seq: 0xffff, payload: &[0xff; 65507] };
    let bytes = full.encode();
    let sum: u64 =
        bytes.chunks(2).map(|it| u64::from(it[0]) << 8 | it.get(1).map_or(0, |it| u64::from(*it))).sum();
    assert_eq!(sum % 0xffff, 0);
}

#[test]
fn short_messages_and_other_types_are_not_decoded() {
    assert_eq!(Echo::decode(&[0; 7]), None);
    assert_eq!(Echo::decode(&[0, 1, 0, 0, 0, 0, 0, 0]), None, "a code");
    assert!(Echo::decode(&[0; 8]).unwrap().payload.is_empty());
    assert_eq!(behind_ip(&[]), None);
    assert_eq!(behind_ip(&[0x45; 19]), None);
    assert_eq!(behind_ip(&[0x44; 30]), None, "a header shorter than it can be");
    assert_eq!(behind_ip(&[0x46; 26]), Some(&[0x46; 2][..]));
}

#[test]
fn quoted_payloads_may_be_truncated_or_padded() {
    for (quoted, expected) in [("", true), ("ab", true), ("abcd", true), ("abcd\0", true), ("abx", false)] {
        assert_eq!(is_start_of(quoted.as_bytes(), b"abcd"), expected, "{quoted:?}");
    }
}

#[test]
fn reasons_have_the_texts_of_ping() {
    let text = |v6, kind, code| Reason { v6, kind, code, mtu: 1400 }.to_string();
    assert_eq!(text(false, 3, 1), "Destination Host Unreachable");
    assert_eq!(text(false, 3, 4), "Frag needed and DF set (mtu = 1400)");
    assert_eq!(text(false, 11, 0), "Time to live exceeded");
    assert_eq!(text(true, 1, 3), "Destination unreachable: Address unreachable");
    assert_eq!(text(true, 2, 0), "Packet too big: mtu=1400");
    assert_eq!(text(false, 3, 99), "ICMP type 3, code 99");
    assert_eq!(text(true, 1, 99), "ICMPv6 type 1, code 99");
}

#[test]
fn an_answer_needs_a_sent_number_and_our_payload() {
    let ours = payload(56);
    assert_ne!(payload(56), ours, "two pings must differ");
    let (from, to) = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3]));
    let at = Duration::from_millis(1003);
    let sent = || BTreeMap::from([(7, Sent { at: Duration::from_secs(1), answered: false })]);
    let echo = |seq, payload| Received::Echo { from, seq, ttl: Some(63), at, payload };
    let mut state = sent();
    for duplicate in [false, true] {
        let expected = Answer::Echo {
            seq: 7,
            from,
            ttl: Some(63),
            time: Duration::from_millis(3),
            bytes: 64,
            duplicate,
        };
        assert_eq!(answer(&echo(7, &ours), &mut state, &ours), Some(expected));
    }
    assert_eq!(answer(&echo(8, &ours), &mut sent(), &ours), None, "never sent");
    for theirs in [&payload(56)[..], &ours[..55], &[&ours[..], &[0]].concat(), &[]] {
        assert_eq!(answer(&echo(7, theirs), &mut sent(), &ours), None, "{theirs:?}");
    }
    let reason = Reason { v6: false, kind: 3, code: 1, mtu: 0 };
    let error = |seq, quoted| Received::Error { from, to, seq, reason, quoted };
    for quoted in [&ours[..], &ours[..8], &[]] {
        let expected = Answer::Unreachable { seq: 7, from, reason };
        assert_eq!(answer(&error(7, quoted), &mut sent(), &ours), Some(expected), "{quoted:?}");
    }
    assert_eq!(answer(&error(8, &ours), &mut sent(), &ours), None);
    assert_eq!(answer(&error(7, &payload(56)), &mut sent(), &ours), None);
    assert_eq!(answer(&Received::Other, &mut sent(), &ours), None);
}
