//! `conlink link`: pull and plug cables of a running network.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::api::{Accepted, Carrier, LinkState, Overridden, OverriddenLink, Override, Request};
use crate::tools::conlink::client::{self, Client};
use crate::tools::conlink::status::StatusError;
use crate::words::printable;
use crate::{err, out};

/// How long the engine may take: it finishes earlier work first.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Pull the cable: both ends lose their carrier
    Down {
        #[command(flatten)]
        which: LinkArgs,
        /// Plug the cable in again after this time, such as 30s, 500ms or 5m
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// Plug the cable in again
    Up {
        #[command(flatten)]
        which: LinkArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// Compose project or lab [default: COMPOSE_PROJECT_NAME, else the only one running]
    #[arg(short, long)]
    name: Option<String>,
    /// NODE (all of its links) or NODE:INTERFACE. A node is a service (all of its replicas), SERVICE-INDEX or a
    /// container name
    #[arg(required = true, value_name = "LINK")]
    links: Vec<String>,
}

/// Parses a number with a unit; the default unit is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time above 0, such as 30s, 500ms, 5m or 1h".to_owned();
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

/// Prints one line per link. The exit code is 0 if all links have the requested state, else 1.
pub(super) fn main(link: Link) -> anyhow::Result<u8> {
    let (which, carrier, time) = match link {
        Link::Down { which, time } => (which, Carrier::Down, time),
        Link::Up { which } => (which, Carrier::Up, None),
    };
    let servers = client::chosen(which.name.as_deref())?;
    let [server] = servers.as_slice() else {
        bail!("several are running; choose one with --name: {}", client::list(&servers));
    };
    let author = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|it| std::env::var(it).ok());
    let request = Request::Override(Override {
        links: which.links,
        carrier: Some(carrier),
        seconds: time.map(|it| it.as_secs_f64()),
        author: author.unwrap_or_default().chars().take(64).collect(),
        ..Override::default()
    });
    let mut client = Client::ask(server, &request)?;
    let hung_up = || format!("{server} hung up");
    let _: Accepted = client.next(Some(client::PATIENCE))?.with_context(hung_up)?;
    let Overridden { links } = client.next(Some(PATIENCE))?.with_context(hung_up)?;
    let mut good = true;
    for OverriddenLink { node, link } in links {
        good &= link.state == LinkState::Up;
        let name = printable(&format!("{node}:{}", link.dev));
        let is_up = !link.overrides.iter().any(|it| it.what == "carrier down");
        let carrier = is_up.then(|| "plugged in".to_owned());
        let states = carrier.into_iter().chain(link.overrides.iter().map(|it| printable(&it.what)));
        out(&format!("{name}: {}\n", states.collect::<Vec<_>>().join(", ")))?;
        for it in &link.errors {
            let StatusError { text, help } = it.into();
            err(&format!("error: {text}\n"));
            help.iter().for_each(|it| err(&format!("hint: {it}\n")));
        }
        for it in &link.drift {
            err(&format!("error: link {name}: changed outside conlink: {}\n", printable(it)));
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
