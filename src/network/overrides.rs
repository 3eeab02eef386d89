//! Overrides: settings that a user changes while the network runs. An override wins over the configuration until it is
//! removed or expires. It belongs to a link, not to a container, so it survives a restart of the container.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::netem::Netem;
use crate::network::{Link, LinkId, LinkKind};

/// All overrides, by link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    links: BTreeMap<LinkId, BTreeMap<Aspect, Override>>,
}

/// The aspects of a link that can be overridden, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Carrier,
    Netem,
    NetemIn,
}

/// The new value of one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The outer end is down, so that neither end has a carrier, as with a pulled cable.
    CarrierDown,
    /// Impairment of packets that leave the container; None: no impairment.
    Netem(Option<Netem>),
    /// Impairment of packets that arrive at the container; None: no impairment.
    NetemIn(Option<Netem>),
}

/// One override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub setting: Setting,
    /// Who set it.
    pub author: String,
    /// When it expires.
    pub until: Option<Deadline>,
}

/// A point in time, for the program and for users.
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

    /// Why the setting does not fit the link, if it does not.
    fn refusal(&self, link: &Link) -> Option<&'static str> {
        match (self, &link.kind) {
            (Self::Netem(_), _) | (_, LinkKind::Veth { .. }) => None,
            (Self::CarrierDown, _) => Some("only a veth link has a cable to pull"),
            (Self::NetemIn(_), _) => Some("netem-in needs a veth link"),
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
    /// Sets an override for a link. It replaces an earlier one of the same aspect.
    ///
    /// # Errors
    /// The link's type does not support it.
    pub fn set(&mut self, link: &Link, it: Override) -> Result<(), &'static str> {
        if let Some(why) = it.setting.refusal(link) {
            return Err(why);
        }
        self.links.entry(link.id.clone()).or_default().insert(it.setting.aspect(), it);
        Ok(())
    }

    /// Removes the override of the same aspect.
    pub fn unset(&mut self, link: &LinkId, like: &Setting) {
        if let Some(all) = self.links.get_mut(link) {
            all.remove(&like.aspect());
        }
        self.links.retain(|_, it| !it.is_empty());
    }

    /// Removes all overrides of a link.
    pub fn clear(&mut self, link: &LinkId) {
        self.links.remove(link);
    }

    /// Removes expired overrides. Returns their links.
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

    /// When the next override expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.links.values().flat_map(BTreeMap::values).filter_map(|it| it.until).map(|it| it.at).min()
    }

    /// The links that have overrides.
    pub fn links(&self) -> impl Iterator<Item = &LinkId> {
        self.links.keys()
    }

    /// The overrides of a link.
    pub fn of(&self, link: &LinkId) -> impl Iterator<Item = &Override> {
        self.links.get(link).into_iter().flat_map(BTreeMap::values)
    }

    /// The link with its overrides applied.
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
        let id = LinkId { container: "h".to_owned(), dev: dev.parse().unwrap() };
        Link { netem: Some(Netem::parse("delay 1ms").unwrap()), ..Link::new(id, kind, "f:1:1") }
    }

    fn veth(dev: &str) -> Link {
        let attach = Attach::Bridge("lan".parse().unwrap());
        link(dev, LinkKind::Veth { place: Place::Engine, outer: "h-eth0".parse().unwrap(), attach })
    }

    fn by(setting: Setting, until: Option<Deadline>) -> Override {
        Override { setting, author: "me".to_owned(), until }
    }

    #[test]
    fn the_last_override_of_an_aspect_wins_and_removal_restores_the_configuration() {
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
    fn each_override_expires_at_its_own_time() {
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
    fn overrides_that_a_link_type_lacks_are_refused() {
        let dummy = link("d0", LinkKind::Dummy);
        let mut all = Overrides::default();
        assert!(all.set(&dummy, by(Setting::CarrierDown, None)).unwrap_err().contains("a veth link"));
        assert!(all.set(&dummy, by(Setting::NetemIn(None), None)).unwrap_err().contains("a veth link"));
        all.set(&dummy, by(Setting::Netem(None), None)).unwrap();
    }
}
