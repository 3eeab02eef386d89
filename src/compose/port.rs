//! The short form of `ports`: `[[IP:][PUBLISHED[-END]]:]TARGET[-END][/PROTOCOL]`.

use std::net::IpAddr;

/// A port that a short form stands for. A range of published ports may lead to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) host_ip: Option<String>,
    pub(super) published: Option<String>,
    pub(super) target: u16,
    pub(super) protocol: String,
}

/// First and last port.
type Range = (u16, u16);

/// Every port that a short form stands for, in compose's order: by the text of the target. Answers what is wrong.
pub(super) fn parse(text: &str) -> Result<Vec<Port>, String> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("protocol `{protocol}` is none of `tcp`, `udp` and `sctp`"));
    }
    let (rest, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (host_ip, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let host_ip = match host_ip {
        "" => None,
        // An address of version 6 stands in brackets.
        ip => {
            let bare = ip.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
            let known = bare.unwrap_or(ip).parse::<IpAddr>().is_ok_and(|it| it.is_ipv4() || bare.is_some());
            if !known {
                return Err(format!("invalid IP address `{ip}`"));
            }
            Some(bare.unwrap_or(ip).to_owned())
        }
    };
    let target = range(target)?;
    let published = if published.is_empty() { None } else { Some(range(published)?) };
    let to_one = target.0 == target.1 && published.is_some_and(|(first, last)| first != last);
    if let Some((first, last)) = published.filter(|_| !to_one)
        && last - first != target.1 - target.0
    {
        return Err(format!(
            "{} published ports for {} container ports",
            count(first, last),
            count(target.0, target.1)
        ));
    }
    let port = |offset: u16| Port {
        host_ip: host_ip.clone(),
        published: published.map(|(first, last)| match to_one {
            true => format!("{first}-{last}"),
            false => (first + offset).to_string(),
        }),
        target: target.0 + offset,
        protocol: protocol.clone(),
    };
    let mut ports: Vec<Port> = (0..=target.1 - target.0).map(port).collect();
    ports.sort_by_key(|it| it.target.to_string());
    Ok(ports)
}

fn range(text: &str) -> Result<Range, String> {
    let port = |it: &str| {
        let port = it.parse::<u16>().ok().filter(|_| !it.starts_with('+'));
        port.ok_or_else(|| format!("expected a port from 0 to 65535, found `{it}`"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range `{text}` ends before it begins"));
    }
    Ok((first, last))
}

fn count(first: u16, last: u16) -> u32 {
    u32::from(last - first) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let port = |it: &Port| {
            let Port { host_ip, published, target, protocol } = it;
            let host_ip = host_ip.as_deref().unwrap_or("*");
            format!("{host_ip} {}>{target}/{protocol}", published.as_deref().unwrap_or("?"))
        };
        match parse(text) {
            Ok(ports) => ports.iter().map(port).collect::<Vec<_>>().join(", "),
            Err(message) => message,
        }
    }

    #[test]
    fn every_short_form() {
        for (text, expected) in [
            ("80", "* ?>80/tcp"),
            ("8080:80", "* 8080>80/tcp"),
            ("5:5/UDP", "* 5>5/udp"),
            ("9-11", "* ?>10/tcp, * ?>11/tcp, * ?>9/tcp"),
            ("90-91:80-81", "* 90>80/tcp, * 91>81/tcp"),
            ("12400-12500:1240", "* 12400-12500>1240/tcp"),
            ("127.0.0.1::7", "127.0.0.1 ?>7/tcp"),
            ("[::1]:80:80", "::1 80>80/tcp"),
            (":6", "* ?>6/tcp"),
            ("::1:81:81", "invalid IP address `::1`"),
            ("localhost:1:1", "invalid IP address `localhost`"),
            ("1-3:1-2", "3 published ports for 2 container ports"),
            ("1:1-2", "1 published ports for 2 container ports"),
            ("2-1", "the range `2-1` ends before it begins"),
            ("65536", "expected a port from 0 to 65535, found `65536`"),
            ("", "expected a port from 0 to 65535, found ``"),
            ("80/icmp", "protocol `icmp` is none of `tcp`, `udp` and `sctp`"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(parse("1-65535").map(|it| it.len()), Ok(65535));
    }
}
