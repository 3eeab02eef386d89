//! The bytes of ICMP messages.

use std::fmt;

/// Type, code, checksum, identifier and sequence number, in bytes.
pub(super) const HEADER: usize = 8;

/// The type of an echo request and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types {
    pub(super) request: u8,
    pub(super) reply: u8,
}

pub(super) const V4: Types = Types { request: 8, reply: 0 };
pub(super) const V6: Types = Types { request: 128, reply: 129 };

/// An echo request or its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo<'a> {
    pub(super) kind: u8,
    pub(super) id: u16,
    pub(super) seq: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Echo<'a> {
    /// The message with the checksum of IPv4. For IPv6 the checksum includes addresses, and the kernel writes it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, 0, 0, 0];
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.payload);
        let checksum = checksum(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&checksum);
        bytes
    }

    /// The kernel has checked the checksum. The payload may be truncated.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&[kind, 0, _, _, id1, id2, seq1, seq2], payload) = bytes.split_first_chunk::<HEADER>()? else {
            return None;
        };
        let (id, seq) = (u16::from_be_bytes([id1, id2]), u16::from_be_bytes([seq1, seq2]));
        Some(Self { kind, id, seq, payload })
    }
}

/// The Internet checksum (RFC 1071).
pub(in crate::kernel) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|it| match *it {
        [a, b] => u32::from(u16::from_be_bytes([a, b])),
        [a] => u32::from(a) << 8,
        _ => 0,
    });
    // 65535 bytes of 0xff do not overflow the sum.
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// May `quoted` be our payload? Routers quote a part of any length, and some add padding.
pub(super) fn is_start_of(quoted: &[u8], payload: &[u8]) -> bool {
    let length = quoted.len().min(payload.len());
    quoted[..length] == payload[..length]
}

/// The data after the header of an IPv4 packet.
pub(super) fn behind_ip(packet: &[u8]) -> Option<&[u8]> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    packet.get(length..).filter(|_| length >= 20)
}

/// Why a packet was not forwarded. Its text is the same as that of `ping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Reported by ICMPv6.
    pub v6: bool,
    /// The type of the message: RFC 792, RFC 4443.
    pub kind: u8,
    pub code: u8,
    /// The largest packet that fits, in bytes, if that is the reason; otherwise 0.
    pub mtu: u32,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.v6, self.kind, self.code) {
            (false, 3, 0) => "Destination Net Unreachable",
            (false, 3, 1) => "Destination Host Unreachable",
            (false, 3, 2) => "Destination Protocol Unreachable",
            (false, 3, 3) => "Destination Port Unreachable",
            (false, 3, 4) => return write!(f, "Frag needed and DF set (mtu = {})", self.mtu),
            (false, 3, 5) => "Source Route Failed",
            (false, 3, 6) => "Destination Net Unknown",
            (false, 3, 7) => "Destination Host Unknown",
            (false, 3, 8) => "Source Host Isolated",
            (false, 3, 9) => "Destination Net Prohibited",
            (false, 3, 10) => "Destination Host Prohibited",
            (false, 3, 11) => "Destination Net Unreachable for Type of Service",
            (false, 3, 12) => "Destination Host Unreachable for Type of Service",
            (false, 3, 13) => "Packet filtered",
            (false, 3, 14) => "Precedence Violation",
            (false, 3, 15) => "Precedence Cutoff",
            (false, 11, 0) => "Time to live exceeded",
            (false, 11, 1) | (true, 3, 1) => "Frag reassembly time exceeded",
            (true, 1, 0) => "Destination unreachable: No route",
            (true, 1, 1) => "Destination unreachable: Administratively prohibited",
            (true, 1, 2) => "Destination unreachable: Beyond scope of source address",
            (true, 1, 3) => "Destination unreachable: Address unreachable",
            (true, 1, 4) => "Destination unreachable: Port unreachable",
            (true, 1, 5) => "Destination unreachable: Source address failed ingress/egress policy",
            (true, 1, 6) => "Destination unreachable: Reject route to destination",
            (true, 2, _) => return write!(f, "Packet too big: mtu={}", self.mtu),
            (true, 3, 0) => "Time exceeded: Hop limit",
            (false, 12, _) | (true, 4, _) => return write!(f, "Parameter problem (code {})", self.code),
            (v6, kind, code) => {
                let family = if v6 { "ICMPv6" } else { "ICMP" };
                return write!(f, "{family} type {kind}, code {code}");
            }
        };
        f.write_str(text)
    }
}
