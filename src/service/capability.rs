//! Capabilities by name.

/// The names without `CAP_`, by number (`linux/capability.h`).
pub(super) const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability, also those of later kernels.
pub(super) const ALL: u64 = u64::MAX;

/// Those of a container by default, and NET_ADMIN: a lab is for programs that set up networks.
pub(super) const DEFAULT: u64 = {
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_admin, net_raw,
    // sys_chroot, mknod, audit_write, setfcap
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 12, 13, 18, 27, 29, 31];
    let mut set = 0;
    let mut at = 0;
    while at < numbers.len() {
        set |= 1 << numbers[at];
        at += 1;
    }
    set
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_that_of_docker_and_net_admin() {
        let names = NAMES.iter().enumerate().filter(|(number, _)| DEFAULT >> number & 1 == 1);
        let names: Vec<&str> = names.map(|(_, it)| *it).collect();
        assert_eq!(
            names.join(" "),
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW \
             SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
        );
    }
}
