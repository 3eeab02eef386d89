//! Overrides: settings that users change while the network runs.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::api;
use crate::netem::Netem;
use crate::network::{Deadline, Link, LinkId, Override, Setting};
use crate::plan::Subject;
use crate::reconcile::state::{Reconciler, Tracked};
use crate::reconcile::{Effect, Notice};

/// Longest author, in characters. The status shows it on one line.
const LONGEST_AUTHOR: usize = 64;

/// A parsed request.
struct Wanted {
    set: Vec<Setting>,
    /// Remove the override of the carrier.
    plug: bool,
}

impl Reconciler {
    /// Sets or removes overrides: all that the request asks for, or nothing if there is an error. Links that are plugged
    /// in lose the changes of others too. Returns the links that the request names, and the effects.
    ///
    /// # Errors
    /// An unknown link, an invalid impairment, or a link whose type does not support the setting.
    pub fn set_over(
        &mut self,
        asked: &api::Override,
        until: Option<Deadline>,
        now: Instant,
    ) -> Result<(BTreeSet<LinkId>, Vec<Effect>), String> {
        if self.stopping {
            return Err("the engine is stopping".to_owned());
        }
        let Wanted { set, plug } = self.read_override(asked)?;
        let mut meant = BTreeSet::new();
        for word in &asked.links {
            let found = self.links_called(word);
            if found.is_empty() {
                return Err(self.no_link(word));
            }
            meant.extend(found);
        }
        let mut overrides = self.overrides.clone();
        for id in &meant {
            if asked.clear {
                overrides.clear(id);
            }
            if plug {
                overrides.unset(id, &Setting::CarrierDown);
            }
            for setting in &set {
                let it = Override { setting: setting.clone(), author: asked.author.clone(), until };
                let link = self.running_link(id).ok_or_else(|| format!("link {id} does not exist now"))?;
                overrides.set(link, it).map_err(|why| format!("link {id}: {why}"))?;
            }
        }
        let is_changed = |id: &&LinkId| overrides.of(id).ne(self.overrides.of(id));
        let changed: BTreeSet<LinkId> = meant.iter().filter(is_changed).cloned().collect();
        self.overrides = overrides;
        let mut effects = Vec::new();
        self.changed_overrides(&changed, Some(&asked.author), &mut effects);
        if plug {
            self.doubt(&meant);
        }
        let now_wired = self.wire_links(&changed, &mut effects);
        // Links without a change are checked too, because the answer is about the kernel. Failed ones keep their
        // back-off.
        for netns in self.namespaces_of(&meant).difference(&now_wired) {
            self.check_inside(*netns, now, &mut effects);
        }
        self.settle(now, &mut effects);
        Ok((meant, effects))
    }

    fn read_override(&self, asked: &api::Override) -> Result<Wanted, String> {
        let netem = |key: &str, text: &Option<String>| -> Result<Option<Option<Netem>>, String> {
            match text.as_deref().map(str::trim) {
                None => Ok(None),
                Some("") => Ok(Some(None)),
                Some(_) if self.own.without_netem => {
                    Err(format!("{key}: the engine was started with --without-netem"))
                }
                Some(text) => match Netem::parse(text) {
                    Ok(it) => Ok(Some(Some(it))),
                    Err(error) => Err(format!("{key} `{text}`: {error}")),
                },
            }
        };
        let mut set = Vec::new();
        set.extend((asked.carrier == Some(api::Carrier::Down)).then_some(Setting::CarrierDown));
        set.extend(netem("netem", &asked.netem)?.map(Setting::Netem));
        set.extend(netem("netem-in", &asked.netem_in)?.map(Setting::NetemIn));
        let plug = asked.carrier == Some(api::Carrier::Up);
        if asked.links.is_empty() {
            return Err("no link given".to_owned());
        }
        if asked.author.chars().count() > LONGEST_AUTHOR {
            return Err(format!("`author` is longer than {LONGEST_AUTHOR} characters"));
        }
        if set.is_empty() && !plug && !asked.clear {
            return Err("nothing to set: expected `carrier`, `netem`, `netem-in` or `clear`".to_owned());
        }
        if set.is_empty() && asked.seconds.is_some() {
            return Err("`seconds` needs `carrier: down`, `netem` or `netem-in`".to_owned());
        }
        Ok(Wanted { set, plug })
    }

    /// The links that `NODE` or `NODE:INTERFACE` names: links of running containers, and links that have overrides.
    fn links_called(&self, word: &str) -> BTreeSet<LinkId> {
        let (node, dev) = match word.split_once(':') {
            Some((node, dev)) => (node, Some(dev)),
            None => (word, None),
        };
        let is_meant = |id: &LinkId| dev.is_none_or(|it| it == id.dev.as_str());
        let mut found = BTreeSet::new();
        for it in self.containers.values() {
            let container = &it.container;
            let service = container.service.as_deref().unwrap_or_default();
            let of_index = node.strip_prefix(service).and_then(|it| it.strip_prefix('-'));
            let is_called = node == container.name
                || !service.is_empty()
                    && (node == service || of_index == Some(container.index.to_string().as_str()));
            if is_called {
                found.extend(it.instance.links.iter().map(|it| it.id.clone()).filter(|it| is_meant(it)));
            }
        }
        found.extend(self.overrides.links().filter(|it| it.container == node && is_meant(it)).cloned());
        found
    }

    /// The error for a word that names no link.
    fn no_link(&self, word: &str) -> String {
        let (node, dev) = word.split_once(':').unwrap_or((word, ""));
        let links: Vec<String> = self.links_called(node).iter().map(ToString::to_string).collect();
        match links.as_slice() {
            [] => format!("no running node `{node}` with links; expected NODE or NODE:INTERFACE"),
            _ => format!("node `{node}` has no link `{dev}`; it has {}", links.join(", ")),
        }
    }

    fn running_link(&self, id: &LinkId) -> Option<&Link> {
        self.containers.values().flat_map(|it| &it.instance.links).find(|it| it.id == *id)
    }

    /// Reports the new overrides of links, and forgets what was known of the links before.
    fn changed_overrides(
        &mut self,
        links: &BTreeSet<LinkId>,
        author: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        for link in links {
            effects.push(Effect::Notify(Notice::Override {
                link: link.clone(),
                set: self.overrides.of(link).map(|it| it.setting.to_string()).collect(),
                author: author.map(str::to_owned),
            }));
        }
        self.doubt(links);
    }

    /// Forgets what was known of links: the next job gives them all of their settings.
    pub(super) fn doubt(&mut self, links: &BTreeSet<LinkId>) {
        for link in links {
            let subject = Subject::Link(link.clone());
            self.settled.remove(&subject);
            self.drift.remove(&subject);
        }
        for it in self.containers.values_mut() {
            if it.instance.links.iter().any(|it| links.contains(&it.id)) {
                it.before = self.last_job;
            }
        }
    }

    /// The network namespaces of the containers that have these links.
    pub(super) fn namespaces_of(&self, links: &BTreeSet<LinkId>) -> BTreeSet<u64> {
        let has_one = |it: &&Tracked| it.instance.links.iter().any(|it| links.contains(&it.id));
        self.containers.values().filter(has_one).filter_map(|it| it.netns).collect()
    }

    /// Wires the containers that have these links. Returns their network namespaces.
    fn wire_links(&mut self, links: &BTreeSet<LinkId>, effects: &mut Vec<Effect>) -> BTreeSet<u64> {
        let namespaces = self.namespaces_of(links);
        for netns in &namespaces {
            self.wire(*netns, effects);
        }
        namespaces
    }

    /// Removes expired overrides and wires their links.
    pub(super) fn expire_overrides(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let links: BTreeSet<LinkId> = self.overrides.expire(now).into_iter().collect();
        self.changed_overrides(&links, None, effects);
        self.wire_links(&links, effects);
    }

    /// Has the job ended?
    pub fn is_done(&self, job: u64) -> bool {
        !self.jobs.contains_key(&job)
    }

    /// Is anything being wired, or about to be, apart from these jobs?
    pub fn is_wiring(&self, apart_from: &BTreeSet<u64>) -> bool {
        !self.inspections.is_empty() || self.jobs.keys().any(|it| !apart_from.contains(it))
    }
}
