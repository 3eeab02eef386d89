//! The part of HTTP/1.1 (RFC 9112) that a GET request and the status of its answer need.

use std::ops::RangeInclusive;

use crate::tools::wait::host::Host;

/// `http://HOST[:PORT][/PATH][=STATUS]`.
#[derive(Clone, Debug)]
pub(super) struct Url {
    pub(super) host: Host,
    /// The request target: path and query, never empty.
    target: String,
    /// The accepted status codes.
    pub(super) status: RangeInclusive<u16>,
}

/// What is known of an answer from its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// More bytes are needed.
    Partial,
    Status(u16),
    /// The answer is not HTTP.
    Strange,
    /// So many bytes without a status.
    TooLong,
}

/// The most bytes of an answer that are read for its status, with interim answers.
pub(super) const MOST: usize = 64 * 1024;

/// The most headers of an interim answer.
const MOST_HEADERS: usize = 64;

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(if text.starts_with("https://") {
                "TLS is not supported: wait for the port with `--tcp HOST:443`, or run a program that supports it with `-c`"
                    .to_owned()
            } else {
                "expected a URL that starts with `http://`".to_owned()
            });
        };
        if let Some(bad) = text.chars().find(|it| it.is_whitespace() || it.is_control()) {
            return Err(format!("a URL cannot contain {bad:?}"));
        }
        let (rest, status) = split_status(rest)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (authority, target) =
            (authority, if target.starts_with('/') { target.to_owned() } else { format!("/{target}") });
        if authority.contains('@') {
            return Err("a user and password in a URL are not supported".to_owned());
        }
        let has_port = match authority.rfind(']') {
            Some(end) => authority[end..].contains(':'),
            None => authority.contains(':'),
        };
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let mut host = Host::parse(&with_port)?;
        host.text = authority.to_owned();
        Ok(Self { host, target, status })
    }

    /// The whole request.
    pub(super) fn request(&self) -> String {
        let Self { host, target, .. } = self;
        let host = &host.text;
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: conlink-wait\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
    }
}

/// Splits `=200` or `=200-399` off the end. In a query it must follow the value of a parameter: `?a=200` is a parameter,
/// `?a=1=200` has a status as well.
fn split_status(text: &str) -> Result<(&str, RangeInclusive<u16>), String> {
    let all = (text, 200..=299);
    let Some((rest, last)) = text.rsplit_once('=') else { return Ok(all) };
    let of_parameter = rest
        .split_once('?')
        .is_some_and(|(_, query)| query.rsplit('&').next().is_none_or(|parameter| !parameter.contains('=')));
    if of_parameter || !last.chars().all(|it| it.is_ascii_digit() || it == '-') {
        return Ok(all);
    }
    let code = |text: &str| text.parse::<u16>().ok().filter(|it| (100..=599).contains(it) && text.len() == 3);
    let (from, to) = last.split_once('-').unwrap_or((last, last));
    match (code(from), code(to)) {
        (Some(from), Some(to)) if from <= to => Ok((rest, from..=to)),
        _ => Err(format!("expected a status from 100 to 599, or a range such as 200-399, found `{last}`")),
    }
}

/// Reads the status of an answer from its beginning. Interim answers (RFC 9110, 15.2) are skipped.
pub(super) fn read(mut answer: &[u8]) -> Answer {
    let more = if answer.len() < MOST { Answer::Partial } else { Answer::TooLong };
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(answer);
        // The reason comes last in the status line, so with it the status is complete.
        match (response.reason.and(response.code), parsed) {
            // After 101 another protocol follows, and no answer.
            (None | Some(100 | 102..=199), Ok(httparse::Status::Partial)) => return more,
            (None, _) | (Some(100 | 102..=199), Err(_)) => return Answer::Strange,
            (Some(100 | 102..=199), Ok(httparse::Status::Complete(end))) => {
                answer = answer.get(end..).unwrap_or_default();
            }
            (Some(code), _) => return Answer::Status(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (text, host, port, target, status) in [
            ("http://web", "web", 80, "/", 200..=299),
            ("http://web/", "web", 80, "/", 200..=299),
            ("http://web:8080/a/b?c=d#e", "web", 8080, "/a/b?c=d", 200..=299),
            ("http://[::1]:81/x", "::1", 81, "/x", 200..=299),
            ("http://[::1]", "::1", 80, "/", 200..=299),
            ("http://web/x=404", "web", 80, "/x", 404..=404),
            ("http://web=200-399", "web", 80, "/", 200..=399),
            ("http://web/?a=404", "web", 80, "/?a=404", 200..=299),
            ("http://web/?a=1=404", "web", 80, "/?a=1", 404..=404),
            ("http://web/?a=1&b=404", "web", 80, "/?a=1&b=404", 200..=299),
            ("http://web?a", "web", 80, "/?a", 200..=299),
            ("http://web/x=y", "web", 80, "/x=y", 200..=299),
        ] {
            let url = Url::parse(text).unwrap();
            let read = (url.host.name.as_str(), url.host.port, url.target.as_str(), url.status.clone());
            assert_eq!(read, (host, port, target, status), "{text}");
        }
        for text in [
            "https://web",
            "web",
            "http://",
            "http://web:x/",
            "http://web/=999",
            "http://web/=300-200",
            "http://u@web",
            "http://web/a b",
            "http://web:0",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers_are_read() {
        for (text, expected) in [
            ("", Answer::Partial),
            ("HTT", Answer::Partial),
            ("HTTP/1.1 200", Answer::Partial),
            ("HTTP/1.1 20", Answer::Partial),
            ("HTTP/1.1 2000\r\n", Answer::Strange),
            ("HTTP/1.1 200\n", Answer::Status(200)),
            ("HTTP/1.1 503 Service Unavailable\r\nA: b", Answer::Status(503)),
            ("HTTP/1.0 404 x\r\n", Answer::Status(404)),
            ("HTTP/1.1 100 Continue\r\n", Answer::Partial),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n", Answer::Status(204)),
            ("HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 404 x\r\n", Answer::Status(404)),
            ("HTTP/1.1 100 Continue\r\n: x\r\n\r\n", Answer::Strange),
            ("HTTP/1.1 101 Switching Protocols\r\n", Answer::Status(101)),
            ("HTTP/1.1 200 OK\r\n: x\r\n", Answer::Status(200)),
            ("SSH-2.0-x\r\n", Answer::Strange),
            ("HTTP/1.1 abc\r\n", Answer::Strange),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_bytes_of_an_answer_without_a_status_have_a_limit() {
        for part in ["HTTP/1.1 100 Continue\r\n\r\n", "\r\n", "HTTP/1.1 100 Continue\r\nA: "] {
            let text = part.repeat(MOST / part.len() + 1);
            let expected = if part.ends_with(' ') { Answer::Strange } else { Answer::TooLong };
            assert_eq!(read(text.as_bytes()), expected, "{part:?}");
            assert_eq!(read(part.as_bytes()), Answer::Partial, "{part:?}");
        }
    }
}
