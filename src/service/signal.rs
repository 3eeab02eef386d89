//! Signals of Linux by name and number (signal(7)); the same on every architecture that has a container engine.

const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

/// The C library reserves the two below.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

pub(super) const TERM: i32 = 15;

/// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3` or `RTMAX-1`.
pub(super) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|it| (1..=RTMAX).contains(it));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(it, _)| *it == name) {
        return Some(*number);
    }
    let number = |it: &str| it.parse::<i32>().ok().filter(|_| it.starts_with(|it: char| it.is_ascii_digit()));
    let number = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(it), _) => RTMIN.checked_add(number(it)?)?,
        (_, Some(it)) => RTMAX.checked_sub(number(it)?)?,
        _ => return None,
    };
    Some(number).filter(|it| (RTMIN..=RTMAX).contains(it))
}

/// The closest signal name to a misspelled one.
pub(super) fn near(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    crate::words::near(upper.strip_prefix("SIG").unwrap_or(&upper), &names).map(|it| format!("SIG{it}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_or_number() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("sigrtmin", Some(34)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("RTMIN+31", None),
            ("RTMIN+-1", None),
            ("RTMIN+2147483647", None),
            ("SIGFOO", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(near("SIGTREM").as_deref(), Some("SIGTERM"));
    }
}
