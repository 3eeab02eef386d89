//! Hosts and ports.

/// `HOST:PORT`.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// A name, or an address without brackets.
    pub(super) name: String,
    pub(super) port: u16,
    /// As given.
    pub(super) text: String,
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = text.rsplit_once(':').ok_or("expected HOST:PORT, found no port")?;
        let name = match name.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or("missing `]`")?;
                inner
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{inner}` is not an IPv6 address"))?;
                inner.to_owned()
            }
            None if name.contains(':') => {
                name.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("`{name}` is neither a host name nor an IPv6 address"))?;
                name.to_owned()
            }
            None => host_name(name)?,
        };
        let number = Some(port).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|it| it.parse::<u16>().ok()).filter(|it| *it > 0) {
            Some(port) => Ok(Self { name, port, text: text.to_owned() }),
            None => Err(format!("expected a port from 1 to 65535, found `{port}`")),
        }
    }
}

/// A host name, or what is wrong with it.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("missing host".to_owned());
    }
    match text.chars().find(|it| it.is_whitespace() || it.is_control() || matches!(it, '/' | '[' | ']' | '@'))
    {
        Some(bad) => Err(format!("a host name cannot contain {bad:?}")),
        None => Ok(text.to_owned()),
    }
}
