//! The nf_tables expressions of our rules, and their attributes.
//!
//! The numbers of attributes and values are from the kernel's `include/uapi/linux/netfilter/nf_tables.h`.

use crate::kernel::attribute::{Attributes, Received};

/// NFT_REG_1 and NFT_REG_2, 16 bytes each. Values are loaded into the first one and compared there.
pub(super) const REG_1: u32 = 1;
pub(super) const REG_2: u32 = 2;

/// NFTA_LIST_ELEM.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// NFTA_DATA_VALUE.
const VALUE: u16 = 1;

/// NFTA_DATA_VERDICT and NFTA_VERDICT_CODE.
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// NFT_REG_VERDICT.
const VERDICT: u32 = 0;
const NF_DROP: u32 = 0;

/// The flags that the kernel adds if an address or a port is given (NF_NAT_RANGE_MAP_IPS,
/// NF_NAT_RANGE_PROTO_SPECIFIED).
const NAT_FLAGS: u32 = 1 | 2;

/// An expression. It loads into the first register, or compares with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// Loads metadata of the packet: NFT_META_….
    Meta {
        key: u32,
    },
    /// Loads a property of its connection: NFT_CT_….
    Ct {
        key: u32,
    },
    /// Looks an address up in the routing table: NFTA_FIB_F_… and NFT_FIB_RESULT_….
    Fib {
        flags: u32,
        result: u32,
    },
    /// Loads bytes of the packet, relative to NFT_PAYLOAD_…_HEADER.
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    /// Sets the register to `register & mask ^ xor`.
    Bitwise {
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Continues if the register equals the value (NFT_CMP_NEQ: does not equal it).
    Cmp {
        op: u32,
        value: Vec<u8>,
    },
    Immediate {
        register: u32,
        value: Vec<u8>,
    },
    /// Drops the packet (NF_DROP).
    Drop,
    /// Translates: NFT_NAT_SNAT or NFT_NAT_DNAT, NFPROTO_…, and the registers of address and port.
    Nat {
        kind: u32,
        family: u32,
        addr: u32,
        port: Option<u32>,
    },
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Payload { .. } => "payload",
            Self::Bitwise { .. } => "bitwise",
            Self::Cmp { .. } => "cmp",
            Self::Immediate { .. } | Self::Drop => "immediate",
            Self::Nat { .. } => "nat",
        }
    }

    /// Appends the expression to a list.
    pub(super) fn write<'a>(&self, list: &'a mut Attributes) -> &'a mut Attributes {
        list.nest(ELEMENT, |it| it.text(NAME, self.name()).nest(DATA, |it| self.write_data(it)))
    }

    fn write_data<'a>(&self, to: &'a mut Attributes) -> &'a mut Attributes {
        match self {
            Self::Meta { key } => to.number(1, REG_1).number(2, *key),
            Self::Ct { key } => to.number(1, REG_1).number(2, *key),
            Self::Fib { flags, result } => to.number(1, REG_1).number(2, *result).number(3, *flags),
            Self::Payload { base, offset, length } => {
                to.number(1, REG_1).number(2, *base).number(3, *offset).number(4, *length)
            }
            Self::Bitwise { mask, xor } => to
                .number(1, REG_1)
                .number(2, REG_1)
                .number(3, mask.len() as u32)
                .nest(4, |it| it.bytes(VALUE, mask))
                .nest(5, |it| it.bytes(VALUE, xor)),
            Self::Cmp { op, value } => {
                to.number(1, REG_1).number(2, *op).nest(3, |it| it.bytes(VALUE, value))
            }
            Self::Immediate { register, value } => {
                to.number(1, *register).nest(2, |it| it.bytes(VALUE, value))
            }
            Self::Drop => to
                .number(1, VERDICT)
                .nest(2, |it| it.nest(DATA_VERDICT, |it| it.number(VERDICT_CODE, NF_DROP))),
            Self::Nat { kind, family, addr, port } => {
                to.number(1, *kind).number(2, *family).number(3, *addr);
                match port {
                    Some(port) => to.number(5, *port),
                    None => to,
                }
            }
        }
    }

    /// Parses the list of a rule; None if it has any other expression.
    pub(super) fn read_list(list: Received<'_>) -> Option<Vec<Self>> {
        list.map(|(_, element)| Self::read(Received(element))).collect()
    }

    fn read(element: Received<'_>) -> Option<Self> {
        let data = element.nest(DATA)?;
        let number = |kind| data.number(kind);
        let in_reg_1 = |kind| number(kind).filter(|it| *it == REG_1);
        let value = |kind| Some(data.nest(kind)?.bytes(VALUE)?.to_vec());
        match element.text(NAME)? {
            "meta" => in_reg_1(1).and(Some(Self::Meta { key: number(2)? })),
            "ct" => in_reg_1(1).and(Some(Self::Ct { key: number(2)? })),
            "fib" => in_reg_1(1).and(Some(Self::Fib { flags: number(3)?, result: number(2)? })),
            "payload" => {
                let (base, offset, length) = (number(2)?, number(3)?, number(4)?);
                in_reg_1(1).and(Some(Self::Payload { base, offset, length }))
            }
            "bitwise" => {
                // Linux 5.6 added operations other than NFT_BITWISE_MASK_XOR.
                let is_mask = number(6).unwrap_or(0) == 0;
                let (mask, xor) = (value(4)?, value(5)?);
                in_reg_1(1).and(in_reg_1(2)).filter(|_| is_mask)?;
                Some(Self::Bitwise { mask, xor })
            }
            "cmp" => in_reg_1(1).and(Some(Self::Cmp { op: number(2)?, value: value(3)? })),
            "immediate" if number(1)? == VERDICT => {
                let code = data.nest(2)?.nest(DATA_VERDICT)?.number(VERDICT_CODE)?;
                (code == NF_DROP).then_some(Self::Drop)
            }
            "immediate" => Some(Self::Immediate { register: number(1)?, value: value(2)? }),
            "nat" => {
                let (addr, port) = (number(3)?, number(5));
                // Ranges of addresses or ports and flags such as `random` are not supported.
                let single =
                    number(4).is_none_or(|it| it == addr) && number(6).is_none_or(|it| Some(it) == port);
                let plain = number(7).unwrap_or(0) & !NAT_FLAGS == 0;
                let nat = Self::Nat { kind: number(1)?, family: number(2)?, addr, port };
                (single && plain).then_some(nat)
            }
            _ => None,
        }
    }

    /// The name of the expression at the start of a part of a list.
    pub(super) fn name_at(list: &[u8]) -> Option<&str> {
        let (_, element) = Received(list).next()?;
        Received(element).text(NAME)
    }
}
