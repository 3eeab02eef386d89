//! Traffic control: patches and impairments.
//!
//! A patch is an ingress filter that sends every frame on to another interface, before anything else sees it. An
//! impairment is the root queueing discipline.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterMatchAllOption, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Selector, TcU32SelectorFlags,
};

use crate::kernel::link::gone_is_fine;
use crate::kernel::netem;
use crate::kernel::netlink::{Error, Netlink};
use crate::netem::Netem;
use crate::plan::{PROTOCOL, Qdisc};

/// TC_H_INGRESS, which is also TC_H_CLSACT: where a queueing discipline that only holds filters is attached.
const FILTERED: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// TC_H_MIN_INGRESS, the arriving frames. A discipline of kind `ingress` has its filters under any parent `ffff:X`, one
/// of kind `clsact` only under this one.
const ARRIVING: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
/// ETH_P_ALL.
const ALL_PROTOCOLS: u16 = 3;

/// The filter that takes every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Classifier {
    Matchall,
    /// For kernels without matchall.
    U32,
}

/// `tc qdisc add dev FROM ingress`, then
/// `tc filter add dev FROM ingress protocol all prio 1 matchall action mirred egress redirect dev TO`, or the same with
/// u32 where the kernel has no matchall: that it answers once, since each try has it look for a module.
///
/// The discipline is not `clsact`, under which `tc filter show dev FROM parent ffff:` finds no filter.
pub(super) fn add_redirect(
    netlink: &mut Netlink,
    classifier: &mut Classifier,
    from: u32,
    to: u32,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    let mut qdisc = message(from, FILTERED);
    qdisc.header.handle = TcHandle { major: 0xffff, minor: 0 };
    qdisc.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    match netlink.request(RouteNetlinkMessage::NewQueueDiscipline(qdisc), NLM_F_CREATE | NLM_F_EXCL, &what) {
        // A kill between this and the filter leaves a discipline without one: this kind, or clsact.
        Err(error) if error.errno() == Some(libc::EEXIST) && get_redirect(netlink, from)?.is_none() => {}
        result => result?,
    }
    if *classifier == Classifier::Matchall {
        let options = vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(vec![redirect(to)]))];
        match add_filter(netlink, from, "matchall", options, &what) {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                *classifier = Classifier::U32;
            }
            result => return result,
        }
    }
    // Without a key: `match u32 0 0` reads four bytes, and lets frames pass that have fewer (`u32_classify()`).
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    let options = vec![
        TcOption::U32(TcFilterU32Option::Selector(selector)),
        TcOption::U32(TcFilterU32Option::Action(vec![redirect(to)])),
    ];
    add_filter(netlink, from, "u32", options, what)
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent;
    message
}

fn redirect(to: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    action
}

fn add_filter(
    netlink: &mut Netlink,
    index: u32,
    kind: &str,
    options: Vec<TcOption>,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    const PRIORITY: u32 = 1;
    let mut filter = message(index, ARRIVING);
    filter.header.info = PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
    filter.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options)];
    netlink.request(RouteNetlinkMessage::NewTrafficFilter(filter), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// `tc qdisc del dev INDEX ingress`, or `clsact`: its filters go with it. That it is gone already is success.
pub(super) fn del_redirect(
    netlink: &mut Netlink,
    index: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    // Without a kind, which would have to be the kind that is there.
    let qdisc = message(index, FILTERED);
    match gone_is_fine(netlink.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0, what)) {
        // What the kernel answers when the interface has no such discipline.
        Err(error) if error.errno() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// Our handle, `c2:`; the kernel gives out those from `8000:`.
const HANDLE: TcHandle = TcHandle { major: PROTOCOL as u16, minor: 0 };
/// TCA_KIND, TCA_OPTIONS (`include/uapi/linux/rtnetlink.h`).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `struct tcmsg`: family, three bytes of padding, then index, handle, parent and info, four bytes each.
const TCMSG: usize = 20;

/// `tc qdisc replace dev INDEX root handle c2: netem …`.
pub(super) fn add_netem(
    netlink: &mut Netlink,
    index: u32,
    netem: &Netem,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut qdisc = netem_message(index, netem::encode(netem));
    qdisc.header.handle = HANDLE;
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    netlink.request(RouteNetlinkMessage::NewQueueDiscipline(qdisc), flags, what)
}

/// `tc qdisc change dev INDEX root netem …`.
pub(super) fn set_netem(
    netlink: &mut Netlink,
    index: u32,
    netem: &Netem,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let qdisc = netem_message(index, netem::encode_change(netem));
    netlink.request(RouteNetlinkMessage::NewQueueDiscipline(qdisc), 0, what)
}

/// Does the kernel keep seeds of impairments? It does since Linux 6.6, and reports the one it has then; before, it
/// ignores a seed without a word.
pub(super) fn keeps_seed(netlink: &mut Netlink, index: u32) -> Result<bool, Error> {
    let message = RouteNetlinkMessage::GetQueueDiscipline(message(index, TcHandle::ROOT));
    let options = |bytes: &[u8]| {
        let mut attributes = NlasIterator::new(bytes.get(TCMSG..)?).flatten();
        attributes.find(|it| it.kind() == OPTIONS).map(|it| netem::has_seed(it.value()))
    };
    let what = || format!("get the queueing discipline of interface {index}");
    Ok(netlink.get_raw(message, options, what)?.unwrap_or(false))
}

fn netem_message(index: u32, options: Vec<u8>) -> TcMessage {
    let mut qdisc = message(index, TcHandle::ROOT);
    // The library has no type for these options, which begin with a structure rather than an attribute.
    qdisc.attributes =
        vec![TcAttribute::Kind("netem".to_owned()), TcAttribute::Other(DefaultNla::new(OPTIONS, options))];
    qdisc
}

/// `tc qdisc del dev INDEX root`. That it is gone already is success.
pub(super) fn del_netem(
    netlink: &mut Netlink,
    index: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let qdisc = message(index, TcHandle::ROOT);
    gone_is_fine(netlink.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0, what))
}

/// The queueing disciplines of a namespace.
#[derive(Debug, Default)]
pub(super) struct Qdiscs {
    /// Interfaces whose arriving frames may meet a filter: those with `tc qdisc … clsact` or `ingress`.
    pub(super) filtered: BTreeSet<u32>,
    /// Those at the root that somebody put there, by interface.
    pub(super) roots: BTreeMap<u32, Qdisc>,
}

pub(super) fn dump_qdiscs(netlink: &mut Netlink) -> Result<Qdiscs, Error> {
    let message = RouteNetlinkMessage::GetQueueDiscipline(message(0, TcHandle::default()));
    let all = netlink.dump_raw(message, decode_qdisc, || "dump queueing disciplines".to_owned())?;
    let mut qdiscs = Qdiscs::default();
    for it in all {
        match it {
            Decoded::Filtered(index) => drop(qdiscs.filtered.insert(index)),
            Decoded::Root(index, qdisc) => drop(qdiscs.roots.insert(index, qdisc)),
        }
    }
    Ok(qdiscs)
}

/// The root queueing discipline of one interface, if somebody put one there.
pub(super) fn get_root(netlink: &mut Netlink, index: u32) -> Result<Option<Qdisc>, Error> {
    let message = RouteNetlinkMessage::GetQueueDiscipline(message(index, TcHandle::ROOT));
    let what = || format!("get the queueing discipline of interface {index}");
    match netlink.get_raw(message, decode_qdisc, what) {
        Ok(Some(Decoded::Root(_, qdisc))) => Ok(Some(qdisc)),
        Ok(_) => Ok(None),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

enum Decoded {
    Filtered(u32),
    Root(u32, Qdisc),
}

/// What is behind the header of an RTM_NEWQDISC.
fn decode_qdisc(bytes: &[u8]) -> Option<Decoded> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (index, handle, parent) = (word(4)?, word(8)?, word(12)?);
    // No other discipline has this parent.
    if parent == u32::from(FILTERED.major) << 16 | u32::from(FILTERED.minor) {
        return Some(Decoded::Filtered(index));
    }
    // The kernel's default has no handle.
    if parent != u32::MAX || handle == 0 {
        return None;
    }
    let mut kind = String::new();
    let mut options = Vec::new();
    for it in NlasIterator::new(bytes.get(TCMSG..)?).flatten() {
        match it.kind() {
            KIND => kind = String::from_utf8_lossy(it.value()).trim_end_matches('\0').to_owned(),
            OPTIONS => options = it.value().to_vec(),
            _ => {}
        }
    }
    let qdisc = match (kind.as_str(), netem::decode(&options)) {
        ("netem", Some(netem)) => Qdisc::Netem { netem, ours: handle == u32::from(HANDLE.major) << 16 },
        _ => Qdisc::Other(kind),
    };
    Some(Decoded::Root(index, qdisc))
}

/// Where the ingress filter of the interface sends frames: None without a filter, 0 when the target is gone.
pub(super) fn get_redirect(netlink: &mut Netlink, index: u32) -> Result<Option<u32>, Error> {
    let filters = netlink.dump(RouteNetlinkMessage::GetTrafficFilter(message(index, ARRIVING)), || {
        format!("dump filters of interface {index}")
    });
    let filters = match filters {
        Ok(it) => it,
        // Without the queueing discipline there is nothing that could have filters.
        Err(error) if error.is_gone() || error.errno() == Some(libc::EINVAL) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(filters.iter().find_map(|it| match it {
        RouteNetlinkMessage::NewTrafficFilter(it) => target(it),
        _ => None,
    }))
}

fn target(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().filter_map(|it| match it {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|it| match it {
        TcOption::U32(TcFilterU32Option::Action(actions))
        | TcOption::MatchAll(TcFilterMatchAllOption::Action(actions)) => Some(actions),
        _ => None,
    });
    let settings = actions.flatten().flat_map(|it| &it.attributes).filter_map(|it| match it {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    settings.flatten().find_map(|it| match it {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(it))
            if it.eaction == TcMirrorActionType::EgressRedir =>
        {
            Some(it.ifindex)
        }
        _ => None,
    })
}
