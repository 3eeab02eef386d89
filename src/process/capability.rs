//! The capabilities of this process (`capabilities(7)`).

/// A capability that conlink knows of, with its number (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    DacReadSearch = 2,
    Kill = 5,
    NetAdmin = 12,
    SysModule = 16,
    SysPacct = 20,
    SysAdmin = 21,
    SysBoot = 22,
    SysTime = 25,
    Perfmon = 38,
    Bpf = 39,
}

impl Capability {
    /// Its bit in a set of capabilities.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// Does this process have the capability, as an effective one? False if `/proc` does not tell.
pub fn has_capability(capability: Capability) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let effective = line.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0);
    effective & capability.bit() != 0
}
