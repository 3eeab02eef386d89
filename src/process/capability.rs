//! The capabilities of this process (`capabilities(7)`).

/// A capability, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    NetAdmin = 12,
    SysAdmin = 21,
}

/// Does this process have the capability, as an effective one? False if `/proc` does not tell.
pub fn has_capability(capability: Capability) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let effective = line.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0);
    effective & 1 << (capability as u8) != 0
}
