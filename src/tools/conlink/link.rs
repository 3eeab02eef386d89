//! `conlink link`: pull and plug the cables of a network that runs.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};

use crate::api::{Carrier, LinkState, Overridden, Override, Request};
use crate::tools::conlink::client::{self, Client};
use crate::tools::conlink::status::{StatusError, printable};
use crate::{err, out};

/// How long the work may take: it waits for what is being wired.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Pull the cable: neither end has a carrier until it is plugged in again
    Down {
        #[command(flatten)]
        which: Which,
        /// Plug it in again after this time, such as 30s, 500ms, 5m
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// Plug the cable in again
    Up {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The compose project or lab [default: COMPOSE_PROJECT_NAME, else the only one that runs]
    #[arg(short, long)]
    name: Option<String>,
    /// NODE (all of its links) or NODE:INTERFACE. A node is a service (all of its replicas), SERVICE-INDEX or a
    /// container's name
    #[arg(required = true, value_name = "LINK")]
    links: Vec<String>,
}

/// A number with a unit; seconds where there is none.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number above 0 with `ms`, `s`, `m` or `h`, such as 30s".to_owned();
    let end = text.find(|it: char| it.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())?;
    if time.is_zero() { Err(wrong()) } else { Ok(time) }
}

/// Prints a line for each link. Exits with 0 when all of them are as asked for, else with 1.
pub(super) fn main(link: Link) -> anyhow::Result<u8> {
    let (which, carrier, time) = match link {
        Link::Down { which, time } => (which, Carrier::Down, time),
        Link::Up { which } => (which, Carrier::Up, None),
    };
    let servers = client::chosen(which.name.as_deref())?;
    let [server] = servers.as_slice() else {
        bail!("which one? There is {}: name it with --name", client::list(&servers));
    };
    let author = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|it| std::env::var(it).ok());
    let request = Request::Override(Override {
        links: which.links,
        carrier: Some(carrier),
        seconds: time.map(|it| it.as_secs_f64()),
        author: author.unwrap_or_default(),
        ..Override::default()
    });
    let answer: Option<Overridden> = Client::ask(server, &request)?.next(Some(PATIENCE))?;
    let Some(Overridden { links }) = answer else { bail!("{server} hung up") };
    let mut good = true;
    for it in links {
        good &= it.link.state == LinkState::Up;
        let name = printable(&format!("{}:{}", it.node, it.link.dev));
        let state = match it.link.overrides.as_slice() {
            [] => "as in the configuration".to_owned(),
            all => all.iter().map(|it| printable(&it.what)).collect::<Vec<_>>().join(", "),
        };
        out(&format!("{name}: {state}\n"))?;
        for it in &it.link.errors {
            let StatusError { text, help } = it.into();
            err(&format!("error: {text}\n"));
            help.iter().for_each(|it| err(&format!("hint: {it}\n")));
        }
    }
    Ok(u8::from(!good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, ms) in [("30s", 30_000), ("500ms", 500), ("1.5m", 90_000), ("2h", 7_200_000), ("7", 7000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "1d", "1e400s", "nan", "5 s", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
