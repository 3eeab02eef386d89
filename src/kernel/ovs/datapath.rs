//! Datapaths: the kernel module, or the daemon itself.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

use crate::kernel::attribute::Attributes;

/// The datapath of a bridge, which forwards its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel module `openvswitch`.
    Kernel,
    /// The daemon with packet sockets: slower, but works on every kernel with tun.
    Userspace,
}

impl Datapath {
    /// The column `datapath_type` of a bridge.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "system",
            Self::Userspace => "netdev",
        }
    }

    /// None for other names.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "" | "system" => Some(Self::Kernel),
            "netdev" => Some(Self::Userspace),
            _ => None,
        }
    }
}

/// NETLINK_GENERIC.
const GENERIC: isize = 16;
/// GENL_ID_CTRL: the family that lists the others.
const CONTROL: u16 = 0x10;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// CTRL_CMD_GETFAMILY and the version of the family.
const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
/// CTRL_ATTR_FAMILY_NAME.
const NAME: u16 = 2;

/// Does the kernel have Open vSwitch? The request by name makes the kernel load the module (`ctrl_getfamily()` in
/// `net/netlink/genetlink.c`), which reading a list of modules would not.
pub(super) fn in_kernel() -> bool {
    has_family("ovs_datapath").unwrap_or_else(|error| {
        log::debug!("ask the kernel for Open vSwitch: {error}");
        false
    })
}

fn has_family(name: &str) -> io::Result<bool> {
    let mut socket = Socket::new(GENERIC)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(name), 0)?;
    let mut answer = [0; 8192];
    let length = socket.recv(&mut &mut answer[..], 0)?;
    // Otherwise it is an error message.
    let kind = answer.get(..length).and_then(|it| it.get(4..6));
    Ok(kind == Some(&CONTROL.to_ne_bytes()))
}

/// `struct nlmsghdr`, `struct genlmsghdr` and the name as an attribute.
fn request(name: &str) -> Vec<u8> {
    const HEADERS: usize = 16 + 4;
    let mut attributes = Attributes::default();
    attributes.text(NAME, name);
    let length = HEADERS + attributes.as_bytes().len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(CONTROL.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence and port are 0, because there is only one request on the socket.
    bytes.extend([0; 8]);
    bytes.extend(GET_FAMILY);
    bytes.extend(attributes.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_name() {
        // A family that every kernel has, and one that none has.
        assert!(has_family("nlctrl").unwrap());
        assert!(!has_family("conlink_none").unwrap());
    }

    #[test]
    fn datapaths_have_the_names_of_the_database() {
        for it in [Datapath::Kernel, Datapath::Userspace] {
            assert_eq!(Datapath::named(it.name()), Some(it));
        }
        assert_eq!(Datapath::named(""), Some(Datapath::Kernel));
        assert_eq!(Datapath::named("dummy"), None);
    }
}
