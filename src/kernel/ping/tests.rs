use super::message::{self, Echo, Reason, behind_ip, is_start_of};

#[test]
fn request_is_the_bytes_that_the_rfc_has() {
    let echo = Echo { kind: message::V4.request, id: 0x1234, seq: 7, payload: b"abc" };
    // 0800 + 1234 + 0007 + 6162 + 6300 = de9d; its complement is 2162.
    let bytes = [8, 0, 0x21, 0x62, 0x12, 0x34, 0, 7, b'a', b'b', b'c'];
    assert_eq!(echo.encode(), bytes);
    assert_eq!(Echo::decode(&bytes), Some(echo));
    // Carries are added again until there are none: ffff + ffff + … + 0800 + ffff.
    let full = Echo { kind: 8, id: 0xffff, seq: 0xffff, payload: &[0xff; 65507] };
    let bytes = full.encode();
    let sum: u64 =
        bytes.chunks(2).map(|it| u64::from(it[0]) << 8 | it.get(1).map_or(0, |it| u64::from(*it))).sum();
    assert_eq!(sum % 0xffff, 0);
}

#[test]
fn what_is_too_short_or_no_echo_is_not_decoded() {
    assert_eq!(Echo::decode(&[0; 7]), None);
    assert_eq!(Echo::decode(&[0, 1, 0, 0, 0, 0, 0, 0]), None, "a code");
    assert_eq!(Echo::decode(&[0; 8]).unwrap().payload, []);
    assert_eq!(behind_ip(&[]), None);
    assert_eq!(behind_ip(&[0x45; 19]), None);
    assert_eq!(behind_ip(&[0x44; 30]), None, "a header shorter than it can be");
    assert_eq!(behind_ip(&[0x46; 26]), Some(&[0x46; 2][..]));
}

#[test]
fn quotes_may_be_cut_or_padded() {
    for (quoted, expected) in [("", true), ("ab", true), ("abcd", true), ("abcd\0", true), ("abx", false)] {
        assert_eq!(is_start_of(quoted.as_bytes(), b"abcd"), expected, "{quoted:?}");
    }
}

#[test]
fn reasons_are_in_the_words_of_ping() {
    let text = |v6, kind, code| Reason { v6, kind, code, mtu: 1400 }.to_string();
    assert_eq!(text(false, 3, 1), "Destination Host Unreachable");
    assert_eq!(text(false, 3, 4), "Frag needed and DF set (mtu = 1400)");
    assert_eq!(text(false, 11, 0), "Time to live exceeded");
    assert_eq!(text(true, 1, 3), "Destination unreachable: Address unreachable");
    assert_eq!(text(true, 2, 0), "Packet too big: mtu=1400");
    assert_eq!(text(false, 3, 99), "ICMP type 3, code 99");
    assert_eq!(text(true, 1, 99), "ICMPv6 type 1, code 99");
}
