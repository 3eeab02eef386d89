//! Patches: an ingress filter that sends every frame on to another interface, before anything else sees it.

use std::collections::BTreeSet;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterMatchAllOption, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Selector, TcU32SelectorFlags,
};

use crate::kernel::link::gone_is_fine;
use crate::kernel::netlink::{Error, Netlink};

/// TC_H_CLSACT: the queueing discipline that only holds filters.
const CLSACT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// TC_H_MIN_INGRESS of it.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
/// ETH_P_ALL.
const ALL_PROTOCOLS: u16 = 3;

/// The filter that takes every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Classifier {
    Matchall,
    /// For kernels without matchall.
    U32,
}

/// `tc qdisc add dev FROM clsact`, then
/// `tc filter add dev FROM ingress protocol all prio 1 matchall action mirred egress redirect dev TO`, or the same with
/// u32 where the kernel has no matchall: that it answers once, since each try has it look for a module.
pub(super) fn add_redirect(
    netlink: &mut Netlink,
    classifier: &mut Classifier,
    from: u32,
    to: u32,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    let mut qdisc = message(from, CLSACT);
    qdisc.header.handle = TcHandle { major: 0xffff, minor: 0 };
    qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    match netlink.request(RouteNetlinkMessage::NewQueueDiscipline(qdisc), NLM_F_CREATE | NLM_F_EXCL, &what) {
        // A kill between this and the filter leaves it without one.
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
    let mut filter = message(index, INGRESS);
    filter.header.info = PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
    filter.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options)];
    netlink.request(RouteNetlinkMessage::NewTrafficFilter(filter), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// `tc qdisc del dev INDEX clsact`: its filters go with it. That it is gone already is success.
pub(super) fn del_redirect(
    netlink: &mut Netlink,
    index: u32,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut qdisc = message(index, CLSACT);
    qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    match gone_is_fine(netlink.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0, what)) {
        // What the kernel answers when the interface has no such discipline.
        Err(error) if error.errno() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// The interfaces whose arriving frames may meet a filter: those with `tc qdisc … clsact` or `ingress`.
pub(super) fn dump_filtered(netlink: &mut Netlink) -> Result<BTreeSet<u32>, Error> {
    let message = RouteNetlinkMessage::GetQueueDiscipline(message(0, TcHandle::default()));
    let all = netlink.dump(message, || "dump queueing disciplines".to_owned())?;
    let filtered = all.iter().filter_map(|it| match it {
        // TC_H_INGRESS and TC_H_CLSACT are one number, which no other discipline has as its parent.
        RouteNetlinkMessage::NewQueueDiscipline(it) if it.header.parent == CLSACT => {
            Some(it.header.index.cast_unsigned())
        }
        _ => None,
    });
    Ok(filtered.collect())
}

/// Where the ingress filter of the interface sends frames: None without a filter, 0 when the target is gone.
pub(super) fn get_redirect(netlink: &mut Netlink, index: u32) -> Result<Option<u32>, Error> {
    let filters = netlink.dump(RouteNetlinkMessage::GetTrafficFilter(message(index, INGRESS)), || {
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
