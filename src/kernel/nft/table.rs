//! Messages about the table `conlink`: its content, and the transactions that change it.

use std::io;

use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::expr::Expr;
use super::rule;
use super::wire::{Batch, Kind, Wire};
use crate::kernel::attribute::{Attributes, Received};
use crate::kernel::netlink::{Error, Failed, Interrupted, TRIES};
use crate::nat::{NatAction, NatChain, NatRule};
use crate::plan::Mark;

pub(super) const TABLE: &str = "conlink";

/// NFTA_…_TABLE of chains and rules, and NFTA_TABLE_NAME.
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// NFT_TABLE_F_DORMANT: the table has no effect.
const DORMANT: u32 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
/// NFTNL_UDATA_RULE_COMMENT of libnftnl, as used by `nft` for comments.
const COMMENT: u8 = 0;
/// NFTA_GEN_ID.
const GENERATION: u16 = 1;

/// A rule of the table, ours or not.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) handle: u64,
    pub(super) chain: String,
    /// The comment, if it is a mark of ours.
    pub(super) mark: Option<String>,
    /// Its action, if conlink could have written it.
    pub(super) action: Option<NatAction>,
}

/// The state of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainState {
    Absent,
    Right,
    /// It has another type, or is at another hook or priority.
    Wrong,
}

/// All rules of the table.
pub(super) fn found(wire: &mut Wire) -> Result<Vec<Found>, Failed> {
    let mut all = Vec::new();
    let mut request = Attributes::default();
    request.text(TABLE_NAME, TABLE);
    let mut tries = 0..TRIES;
    while let Interrupted(true) = wire.dump(Kind::GetRule, &request, |it| all.extend(read(it)))? {
        tries
            .next()
            .ok_or_else(|| io::Error::other("the kernel's state changed during each try to read it"))?;
        all.clear();
    }
    if all.iter().all(|it| it.action.is_none()) {
        return Ok(all);
    }
    // Rules that no packet reaches have no action.
    let dormant = is_dormant(wire)?.unwrap_or(false);
    for chain in NatChain::ALL {
        if dormant || chain_state(wire, chain)? != ChainState::Right {
            for it in all.iter_mut().filter(|it| it.chain == chain.name()) {
                it.action = None;
            }
        }
    }
    Ok(all)
}

fn read(rule: Received<'_>) -> Option<Found> {
    // A kernel that does not support filters of dumps returns the rules of all tables.
    if rule.text(TABLE_NAME)? != TABLE {
        return None;
    }
    let handle = u64::from_be_bytes(rule.bytes(RULE_HANDLE)?.try_into().ok()?);
    let chain = rule.text(RULE_CHAIN)?.to_owned();
    let mark = rule.bytes(RULE_USERDATA).and_then(comment).filter(|it| Mark::parse(it).is_some());
    let exprs = rule.nest(RULE_EXPRESSIONS).and_then(Expr::read_list);
    let action = exprs.and_then(|it| rule::decode(&chain, &it));
    Some(Found { handle, chain, mark, action })
}

/// The comment in the user data of a rule, which is a list of type (1 byte), length (1 byte) and value.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        userdata = rest;
    }
    None
}

fn userdata(mark: &str) -> Vec<u8> {
    let mut value = mark.as_bytes().to_vec();
    // `nft` only shows comments that end in a zero, which does not fit into one of the maximum length.
    if value.len() < NatRule::MARK_MAX {
        value.push(0);
    }
    [&[COMMENT, value.len() as u8], &value[..]].concat()
}

/// The generation of the namespace's rules: a number that each change increments.
pub(super) fn generation(wire: &mut Wire) -> Result<u32, Failed> {
    let number = wire.get(Kind::GetGeneration, &Attributes::default(), |it| it.number(GENERATION))?;
    number.flatten().ok_or_else(|| Failed::decode("the generation is missing"))
}

/// Is the table dormant? None if it does not exist.
pub(super) fn is_dormant(wire: &mut Wire) -> Result<Option<bool>, Failed> {
    let mut request = Attributes::default();
    request.text(TABLE_NAME, TABLE);
    none_if_gone(wire.get(Kind::GetTable, &request, |it| it.number(TABLE_FLAGS).unwrap_or(0) & DORMANT != 0))
}

pub(super) fn chain_state(wire: &mut Wire, chain: NatChain) -> Result<ChainState, Failed> {
    let mut request = Attributes::default();
    request.text(TABLE_NAME, TABLE).text(CHAIN_NAME, chain.name());
    let state = wire.get(Kind::GetChain, &request, |it| {
        let (number, priority) = rule::hook(chain);
        let hooked = it.nest(CHAIN_HOOK).is_some_and(|it| {
            it.number(HOOK_NUMBER) == Some(number)
                && it.number(HOOK_PRIORITY) == Some(priority.cast_unsigned())
        });
        if hooked && it.text(CHAIN_TYPE) == Some(rule::kind(chain)) {
            ChainState::Right
        } else {
            ChainState::Wrong
        }
    });
    Ok(none_if_gone(state)?.unwrap_or(ChainState::Absent))
}

fn none_if_gone<T>(got: Result<Option<T>, Failed>) -> Result<Option<T>, Failed> {
    match got {
        Err(error) if error.source.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        got => got,
    }
}

/// A transaction, with a name for each part.
#[derive(Default)]
pub(super) struct Transaction<'a> {
    batch: Batch,
    names: Vec<Name<'a>>,
}

#[derive(Clone, Copy)]
enum Name<'a> {
    AddTable,
    DelTable,
    AddChain(NatChain),
    DelChain(NatChain),
    AddRule(&'a NatRule),
    DelRule(u64),
}

impl<'a> Transaction<'a> {
    fn push(
        &mut self,
        name: Name<'a>,
        kind: Kind,
        flags: u16,
        more: impl FnOnce(&mut Attributes) -> &mut Attributes,
    ) {
        let mut attributes = Attributes::default();
        attributes.text(TABLE_NAME, TABLE);
        more(&mut attributes);
        self.batch.push(kind, flags, attributes);
        self.names.push(name);
    }

    /// A dormant table becomes active.
    pub(super) fn add_table(&mut self) {
        self.push(Name::AddTable, Kind::NewTable, NLM_F_CREATE, |it| it.number(TABLE_FLAGS, 0));
    }

    pub(super) fn del_table(&mut self) {
        self.push(Name::DelTable, Kind::DelTable, 0, |it| it);
    }

    pub(super) fn add_chain(&mut self, chain: NatChain) {
        const ACCEPT: u32 = libc::NF_ACCEPT as u32;
        let (number, priority) = rule::hook(chain);
        self.push(Name::AddChain(chain), Kind::NewChain, NLM_F_CREATE, |it| {
            it.text(CHAIN_NAME, chain.name())
                .nest(CHAIN_HOOK, |it| {
                    it.number(HOOK_NUMBER, number).number(HOOK_PRIORITY, priority.cast_unsigned())
                })
                .number(CHAIN_POLICY, ACCEPT)
                .text(CHAIN_TYPE, rule::kind(chain))
        });
    }

    pub(super) fn del_chain(&mut self, chain: NatChain) {
        self.push(Name::DelChain(chain), Kind::DelChain, 0, |it| it.text(CHAIN_NAME, chain.name()));
    }

    pub(super) fn add_rule(&mut self, rule: &'a NatRule) {
        let (Some(chain), Some(exprs)) = (rule.action.chain(), rule::encode(&rule.action)) else { return };
        self.push(Name::AddRule(rule), Kind::NewRule, NLM_F_CREATE | NLM_F_APPEND, |it| {
            it.text(RULE_CHAIN, chain.name())
                .nest(RULE_EXPRESSIONS, |it| exprs.iter().fold(it, |list, expr| expr.write(list)))
                .bytes(RULE_USERDATA, &userdata(&rule.mark))
        });
    }

    pub(super) fn del_rule(&mut self, found: &Found) {
        self.push(Name::DelRule(found.handle), Kind::DelRule, 0, |it| {
            it.text(RULE_CHAIN, &found.chain).bytes(RULE_HANDLE, &found.handle.to_be_bytes())
        });
    }

    pub(super) fn commit(self, wire: &mut Wire, generation: u32) -> Result<(), Error> {
        if self.names.is_empty() {
            return Ok(());
        }
        wire.commit(&self.batch, generation).map_err(|(part, mut error)| {
            let name = part.and_then(|it| self.names.get(it));
            // The table and the chains exist by then, so ENOENT means that the kernel lacks the type or the expression.
            let makes = matches!(name, Some(Name::AddChain(_) | Name::AddRule(_)));
            if makes && error.source.raw_os_error() == Some(libc::ENOENT) {
                error.source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
                let refused = part.zip(error.at).and_then(|(part, at)| self.batch.part_at(part, at));
                error.message = match (name, refused.and_then(Expr::name_at)) {
                    (Some(Name::AddChain(_)), _) => {
                        Some("the kernel does not support this type of chain".to_owned())
                    }
                    (_, expr) => expr.map(|it| format!("the kernel has no expression `{it}`")),
                };
            }
            error.named(name.map_or_else(|| format!("change table inet {TABLE}"), Name::text))
        })
    }
}

impl Name<'_> {
    fn text(&self) -> String {
        match self {
            Self::AddTable => format!("add table inet {TABLE}"),
            Self::DelTable => format!("delete table inet {TABLE}"),
            Self::AddChain(chain) => format!("add chain inet {TABLE} {chain}"),
            Self::DelChain(chain) => format!("delete chain inet {TABLE} {chain}"),
            Self::AddRule(rule) => format!("add rule {rule}"),
            Self::DelRule(handle) => format!("delete rule inet {TABLE} handle {handle}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(count: u16) -> Vec<NatRule> {
        let to = |it| (std::net::Ipv4Addr::LOCALHOST, it).into();
        let action = |it| NatAction::Forward { protocol: crate::nat::Protocol::Tcp, port: it, to: to(it) };
        (0..count).map(|it| NatRule { mark: "conlink:p:a:eth0".to_owned(), action: action(it) }).collect()
    }

    /// Appends a rule with an expression that no kernel has.
    fn add_strange<'a>(transaction: &mut Transaction<'a>, rule: &'a NatRule) {
        transaction.push(Name::AddRule(rule), Kind::NewRule, NLM_F_CREATE | NLM_F_APPEND, |it| {
            it.text(RULE_CHAIN, "prerouting").nest(RULE_EXPRESSIONS, |it| {
                let good = Expr::Meta { key: libc::NFT_META_IIFNAME as u32 };
                good.write(it).nest(1, |it| it.text(1, "frobnicate").nest(2, |it| it))
            })
        });
    }

    #[test]
    fn a_refused_part_is_named_and_nothing_is_changed() {
        super::super::tests::in_namespace("refused by the kernel", || {
            let mut wire = Wire::open().unwrap().unwrap();
            let rules = rules(2000);
            let mut transaction = Transaction::default();
            transaction.add_table();
            transaction.add_chain(NatChain::Prerouting);
            transaction.add_rule(&rules[0]);
            add_strange(&mut transaction, &rules[1]);
            transaction.add_rule(&rules[2]);
            let now = generation(&mut wire).unwrap();
            let error = transaction.commit(&mut wire, now).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "add rule {}: Operation not supported (os error 95): the kernel has no expression `frobnicate`",
                    rules[1]
                )
            );
            assert_eq!(is_dormant(&mut wire).unwrap(), None);
            // More errors than fit into the socket: the first is still reported, and the socket still works.
            let mut transaction = Transaction::default();
            transaction.add_table();
            transaction.add_chain(NatChain::Prerouting);
            for rule in &rules {
                add_strange(&mut transaction, rule);
            }
            let error = transaction.commit(&mut wire, now).unwrap_err().to_string();
            assert!(error.starts_with(&format!("add rule {}: ", rules[0])), "{error}");
            assert_eq!(is_dormant(&mut wire).unwrap(), None);
            let mut transaction = Transaction::default();
            transaction.add_table();
            transaction.commit(&mut wire, now).unwrap();
            assert_eq!(is_dormant(&mut wire).unwrap(), Some(false));
            // A change that was planned for an earlier generation is not made.
            let mut transaction = Transaction::default();
            transaction.del_table();
            let error = transaction.commit(&mut wire, now).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ERESTART));
            assert_eq!(is_dormant(&mut wire).unwrap(), Some(false));
            // A kernel that lacks the type of chain answers the same.
            let mut transaction = Transaction::default();
            transaction.push(Name::AddChain(NatChain::Prerouting), Kind::NewChain, NLM_F_CREATE, |it| {
                it.text(CHAIN_NAME, "x")
                    .nest(CHAIN_HOOK, |it| it.number(HOOK_NUMBER, 0).number(HOOK_PRIORITY, 0))
                    .text(CHAIN_TYPE, "frob")
            });
            let now = generation(&mut wire).unwrap();
            let error = transaction.commit(&mut wire, now).unwrap_err();
            assert_eq!(
                error.to_string(),
                "add chain inet conlink prerouting: Operation not supported (os error 95): \
                 the kernel does not support this type of chain"
            );
        });
    }

    /// Written by hand from the kernel's headers.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_transaction_has_the_bytes_of_the_kernels_headers() {
        const BEGIN: &str = "1c0000001000010005000000000000000000000a0800010000000009";
        const ADD_TABLE: &str =
            "28000000000a01040600000000000000010000000c000100636f6e6c696e6b000800020000000000";
        const ADD_CHAIN: &str = "\
            54000000030a01040700000000000000010000000c000100636f6e6c696e6b000f000300707265726f7574696e670000\
            14000480080001000000000008000200ffffff9c0800050000000001080007006e617400";
        const ADD_RULE: &str = "\
            48010000060a050c0800000000000000010000000c000100636f6e6c696e6b000f000200707265726f7574696e670000\
            0401048024000180090001006d6574610000000014000280080001000000000108000200000000063800018008000100\
            636d70002c00028008000100000000010800020000000000180003801400010065746830000000000000000000000000\
            24000180090001006d65746100000000140002800800010000000001080002000000000f2c00018008000100636d7000\
            20000280080001000000000108000200000000000c00038005000100020000002c0001800e000100696d6d6564696174\
            650000001800028008000100000000010c000280080001000a02000228000180080001006e6174001c00028008000100\
            000000010800020000000002080003000000000114000700000e636f6e6c696e6b3a703a613a6200";
        const END: &str = "140000001100010009000000000000000000000a";
        let rule = NatRule {
            mark: "conlink:p:a:b".to_owned(),
            action: NatAction::Dnat { dev: "eth0".parse().unwrap(), to: "10.2.0.2".parse().unwrap() },
        };
        let mut transaction = Transaction::default();
        transaction.add_table();
        transaction.add_chain(NatChain::Prerouting);
        transaction.add_rule(&rule);
        let hex: String = transaction.batch.finish(5, 9).iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(hex, [BEGIN, ADD_TABLE, ADD_CHAIN, ADD_RULE, END].concat());
    }

    #[test]
    fn comments_are_found_in_user_data() {
        assert_eq!(comment(&userdata("conlink:p:a:x")).as_deref(), Some("conlink:p:a:x"));
        assert_eq!(comment(&[1, 2, 8, 9, 0, 2, b'x', 0, 3, 0]).as_deref(), Some("x"));
        for strange in [&[][..], &[0], &[1, 1, 5], &[0, 2, b'x'], &[0, 1, 0xff], &[5, 200, 0, 1, b'x']] {
            assert_eq!(comment(strange), None, "{strange:?}");
        }
    }
}
