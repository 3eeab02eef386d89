//! `conlink link`: pull and plug cables of a running network.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::api::{Accepted, Carrier, LinkState, Overridden, OverriddenLink, Override, Request, frame};
use crate::duration;
use crate::tools::conlink::client;
use crate::tools::conlink::socket::{self, Client};
use crate::tools::conlink::status::StatusError;
use crate::words::printable;
use crate::{err, out};

/// How long the engine may take, since it finishes earlier work first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Command lines of `conlink link`.
#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Pull cables: the interface in each node stays up and loses its carrier
    Down {
        #[command(flatten)]
        which: LinkArgs,
        /// Plug the cable in again after this time, such as `30s`, `500ms` or `5m`
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse_above_zero)]
        time: Option<Duration>,
    },
    /// Plug cables in again
    Up {
        #[command(flatten)]
        which: LinkArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// Compose project or lab [default: COMPOSE_PROJECT_NAME, else the project of this directory if it is running,
    /// else the only one running]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Print each link as one line of JSON
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// NODE (all of its links) or NODE:INTERFACE. A node is a service (all of its replicas), SERVICE-INDEX or a
    /// container name
    #[arg(required = true, value_name = "LINK")]
    links: Vec<String>,
}

/// Prints one line per link. The exit code is 0 if all links have the requested state, else 1.
pub(super) fn main(link: Link) -> anyhow::Result<u8> {
    let (which, carrier, time) = match link {
        Link::Down { which, time } => (which, Carrier::Down, time),
        Link::Up { which } => (which, Carrier::Up, None),
    };
    let servers = client::chosen_here(which.name.as_deref())?;
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
    let hung_up = || format!("{server} closed the connection");
    let _: Accepted = client.next(Some(socket::PATIENCE))?.with_context(hung_up)?;
    let Overridden { links } = client.next(Some(PATIENCE))?.with_context(hung_up)?;
    let mut good = true;
    for it in links {
        if which.json {
            good &= it.link.state == LinkState::Up;
            out(&String::from_utf8_lossy(&frame(&it)))?;
            continue;
        }
        let OverriddenLink { node, link } = it;
        good &= link.state == LinkState::Up;
        let name = printable(&format!("{node}:{}", link.dev));
        let is_up = !link.overrides.iter().any(|it| it.what == "carrier down");
        let carrier = is_up.then(|| "plugged in".to_owned());
        let states = carrier.into_iter().chain(link.overrides.iter().map(|it| printable(&it.what)));
        if !which.quiet {
            out(&format!("{name}: {}\n", states.collect::<Vec<_>>().join(", ")))?;
        }
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
