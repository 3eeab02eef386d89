//! What people change of a running network on purpose: it goes over what the configuration says, until it is taken back
//! or its time is over. It belongs to a link and not to a container: one that restarts finds it again.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::netem::Netem;
use crate::network::{Link, LinkId, LinkKind};

/// All of it, by link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    links: BTreeMap<LinkId, BTreeMap<Aspect, Override>>,
}

/// What of a link is set over the configuration: each once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Carrier,
    Netem,
    NetemIn,
}

/// What is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The other end is down, so that neither end has a carrier: a cable that is pulled.
    CarrierDown,
    /// The impairment of what leaves the container; None: there is none.
    Netem(Option<Netem>),
    /// The impairment of what arrives at it; None: there is none.
    NetemIn(Option<Netem>),
}

/// What somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub setting: Setting,
    /// Who did.
    pub author: String,
    /// When it ends by itself.
    pub until: Option<Deadline>,
}

/// A moment, for the program and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    pub at: Instant,
    /// Seconds since 1970 began (UTC).
    pub unix: u64,
}

impl Setting {
    fn aspect(&self) -> Aspect {
        match self {
            Self::CarrierDown => Aspect::Carrier,
            Self::Netem(_) => Aspect::Netem,
            Self::NetemIn(_) => Aspect::NetemIn,
        }
    }

    /// Why a link cannot have it, if it cannot.
    fn refusal(&self, link: &Link) -> Option<&'static str> {
        match (self, &link.kind) {
            (Self::Netem(_), _) | (_, LinkKind::Veth { .. }) => None,
            (Self::CarrierDown, _) => {
                Some("its carrier is its parent's: only a veth has another end to set down")
            }
            (Self::NetemIn(_), _) => Some("only a veth has another end that could impair what arrives"),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CarrierDown => f.write_str("carrier down"),
            Self::Netem(Some(it)) => write!(f, "netem {it}"),
            Self::Netem(None) => f.write_str("no netem"),
            Self::NetemIn(Some(it)) => write!(f, "netem-in {it}"),
            Self::NetemIn(None) => f.write_str("no netem-in"),
        }
    }
}

impl Overrides {
    /// Sets it for a link, in place of what was set of the same kind before.
    ///
    /// # Errors
    /// Why a link of that type cannot have it.
    pub fn set(&mut self, link: &Link, it: Override) -> Result<(), &'static str> {
        if let Some(why) = it.setting.refusal(link) {
            return Err(why);
        }
        self.links.entry(link.id.clone()).or_default().insert(it.setting.aspect(), it);
        Ok(())
    }

    /// Takes back what is set of the same kind.
    pub fn unset(&mut self, link: &LinkId, like: &Setting) {
        if let Some(all) = self.links.get_mut(link) {
            all.remove(&like.aspect());
        }
        self.links.retain(|_, it| !it.is_empty());
    }

    /// Takes back all that is set for a link.
    pub fn clear(&mut self, link: &LinkId) {
        self.links.remove(link);
    }

    /// Takes back what is over by now; answers whose it was.
    pub fn expire(&mut self, now: Instant) -> Vec<LinkId> {
        let mut hit = Vec::new();
        for (id, all) in &mut self.links {
            let count = all.len();
            all.retain(|_, it| it.until.is_none_or(|it| it.at > now));
            if all.len() < count {
                hit.push(id.clone());
            }
        }
        self.links.retain(|_, it| !it.is_empty());
        hit
    }

    /// When the next of them is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.links.values().flat_map(BTreeMap::values).filter_map(|it| it.until).map(|it| it.at).min()
    }

    /// The links for which something is set.
    pub fn links(&self) -> impl Iterator<Item = &LinkId> {
        self.links.keys()
    }

    /// What is set for a link.
    pub fn of(&self, link: &LinkId) -> impl Iterator<Item = &Override> {
        self.links.get(link).into_iter().flat_map(BTreeMap::values)
    }

    /// The link as it is to be now.
    pub fn apply(&self, link: &Link) -> Link {
        let mut link = link.clone();
        for it in self.of(&link.id.clone()) {
            match &it.setting {
                Setting::CarrierDown => link.carrier = false,
                Setting::Netem(netem) => link.netem.clone_from(netem),
                Setting::NetemIn(netem) => link.netem_in.clone_from(netem),
            }
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::network::{Attach, Place};

    fn link(dev: &str, kind: LinkKind) -> Link {
        Link {
            id: LinkId { container: "h".to_owned(), dev: dev.parse().unwrap() },
            kind,
            carrier: true,
            mac: None,
            mtu: None,
            addrs: Vec::new(),
            routes: Vec::new(),
            ethtool: Vec::new(),
            netem: Some(Netem::parse("delay 1ms").unwrap()),
            netem_in: None,
            nat: None,
            forwards: Vec::new(),
            required: false,
            repair: false,
            origin: "f:1:1".to_owned(),
        }
    }

    fn veth(dev: &str) -> Link {
        let attach = Attach::Bridge("lan".parse().unwrap());
        link(dev, LinkKind::Veth { place: Place::Engine, outer: "h-eth0".parse().unwrap(), attach })
    }

    fn by(setting: Setting, until: Option<Deadline>) -> Override {
        Override { setting, author: "me".to_owned(), until }
    }

    #[test]
    fn the_last_of_a_kind_counts_and_what_is_taken_back_is_the_configurations_again() {
        let mut all = Overrides::default();
        let eth0 = veth("eth0");
        let delay = |text: &str| Some(Netem::parse(text).unwrap());
        all.set(&eth0, by(Setting::Netem(delay("delay 5ms")), None)).unwrap();
        all.set(&eth0, by(Setting::Netem(delay("loss 1%")), None)).unwrap();
        all.set(&eth0, by(Setting::NetemIn(delay("loss 2%")), None)).unwrap();
        all.set(&eth0, by(Setting::CarrierDown, None)).unwrap();
        let now = all.apply(&eth0);
        assert_eq!((now.netem, now.netem_in, now.carrier), (delay("loss 1%"), delay("loss 2%"), false));
        assert_eq!(all.apply(&veth("eth1")), veth("eth1"));
        all.unset(&eth0.id, &Setting::CarrierDown);
        all.set(&eth0, by(Setting::Netem(None), None)).unwrap();
        let now = all.apply(&eth0);
        assert_eq!((now.netem, now.netem_in, now.carrier), (None, delay("loss 2%"), true));
        all.clear(&eth0.id);
        assert_eq!(all.apply(&eth0), eth0);
        assert_eq!(all, Overrides::default());
    }

    #[test]
    fn each_ends_at_its_own_time() {
        let mut all = Overrides::default();
        let start = Instant::now();
        let after = |seconds| Deadline { at: start + Duration::from_secs(seconds), unix: seconds };
        all.set(&veth("eth0"), by(Setting::CarrierDown, Some(after(2)))).unwrap();
        all.set(&veth("eth0"), by(Setting::Netem(None), Some(after(3)))).unwrap();
        all.set(&veth("eth1"), by(Setting::CarrierDown, None)).unwrap();
        assert_eq!(all.next_deadline(), Some(after(2).at));
        assert_eq!(all.expire(start), []);
        assert_eq!(all.expire(after(2).at), [veth("eth0").id]);
        assert_eq!(all.next_deadline(), Some(after(3).at));
        assert!(all.apply(&veth("eth0")).carrier);
        assert_eq!(all.expire(after(9).at), [veth("eth0").id]);
        assert_eq!((all.next_deadline(), all.of(&veth("eth1").id).count()), (None, 1));
    }

    #[test]
    fn what_a_link_has_no_other_end_for_is_refused() {
        let dummy = link("d0", LinkKind::Dummy);
        let mut all = Overrides::default();
        assert!(all.set(&dummy, by(Setting::CarrierDown, None)).unwrap_err().contains("only a veth"));
        assert!(all.set(&dummy, by(Setting::NetemIn(None), None)).unwrap_err().contains("only a veth"));
        all.set(&dummy, by(Setting::Netem(None), None)).unwrap();
    }
}
