//! Tells a tool which containers start and die, whatever the network says about them.
//!
//! As everywhere, events are hints: each one causes an inspection, and only the answer to the newest question counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::container::ContainerId;
use crate::daemon::{INSPECTION_TRIES, in_slot, inspect};
use crate::docker::{Engine, Running};
use crate::reconcile::{EngineId, Event};

/// What a tool wants to know of containers.
pub struct Follow {
    /// Whether it wants to know of this one.
    pub wants: Box<dyn Fn(&Running) -> bool>,
    pub changes: mpsc::Sender<Change>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follow")
    }
}

/// A container has started or died. A restart is both.
#[derive(Debug)]
pub enum Change {
    /// It runs, with this network namespace.
    Started {
        engine: EngineId,
        container: Box<Running>,
        netns: File,
    },
    Died {
        engine: EngineId,
        name: String,
    },
}

/// Inspects every container.
pub(super) struct Follower {
    follow: Rc<Follow>,
    slots: Rc<Semaphore>,
    asked: Rc<RefCell<Asked>>,
}

/// The containers that were asked for.
#[derive(Default)]
struct Asked {
    last: u64,
    containers: BTreeMap<(EngineId, ContainerId), Known>,
}

/// A container that was asked for.
struct Known {
    /// The number of the newest question.
    ticket: u64,
    /// None: it has not been told of.
    told: Option<Told>,
}

/// A container that the tool knows to run.
#[derive(Clone)]
struct Told {
    name: String,
    pid: u32,
    started_at: Option<String>,
}

impl Follower {
    pub(super) fn new(follow: Follow, slots: Rc<Semaphore>) -> Self {
        Self { follow: Rc::new(follow), slots, asked: Rc::default() }
    }

    /// Inspects the containers that an event is about.
    pub(super) fn hear(&self, event: &Event, engines: &BTreeMap<EngineId, Rc<Engine>>) {
        let (engine_id, ids): (EngineId, Vec<ContainerId>) = match event {
            Event::Hint { engine, id } => (*engine, vec![id.clone()]),
            Event::Listed { engine, containers } => {
                // One that is not listed has died.
                let known = self.asked.borrow();
                let known = known.containers.keys().filter(|it| it.0 == *engine).map(|it| it.1.clone());
                let mut ids: Vec<ContainerId> =
                    known.chain(containers.iter().map(|it| it.id.clone())).collect();
                ids.sort();
                ids.dedup();
                (*engine, ids)
            }
            _ => return,
        };
        let Some(engine) = engines.get(&engine_id) else { return };
        for id in ids {
            let ticket = self.asked.borrow_mut().ticket((engine_id, id.clone()));
            let (follow, slots, asked) = (self.follow.clone(), self.slots.clone(), self.asked.clone());
            let engine = engine.clone();
            tokio::task::spawn_local(async move {
                if let Some(found) = look(engine_id, &engine, &id, &follow, &slots).await {
                    for change in asked.borrow_mut().answer(engine_id, &id, ticket, found) {
                        // An error means that the tool's thread has ended.
                        let _ = follow.changes.send(change);
                    }
                }
            });
        }
    }
}

impl Asked {
    /// The number of a new question.
    fn ticket(&mut self, key: (EngineId, ContainerId)) -> u64 {
        self.last += 1;
        let ticket = self.last;
        self.containers.entry(key).or_insert(Known { ticket, told: None }).ticket = ticket;
        ticket
    }

    /// What to tell after the answer to a question; nothing if there is a newer one.
    fn answer(
        &mut self,
        engine: EngineId,
        id: &ContainerId,
        ticket: u64,
        found: Option<(Running, File)>,
    ) -> Vec<Change> {
        let key = (engine, id.clone());
        let Some(known) = self.containers.get_mut(&key).filter(|it| it.ticket == ticket) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        let is_same = |told: &Told| {
            let found = found.as_ref().map(|(it, _)| (it.pid, &it.started_at));
            found == Some((told.pid, &told.started_at))
        };
        if known.told.as_ref().is_some_and(is_same) {
            return changes;
        }
        if let Some(told) = known.told.take() {
            changes.push(Change::Died { engine, name: told.name });
        }
        match found {
            Some((container, netns)) => {
                let (pid, started_at) = (container.pid, container.started_at.clone());
                known.told = Some(Told { name: container.container.name.clone(), pid, started_at });
                changes.push(Change::Started { engine, container: Box::new(container), netns });
            }
            None => drop(self.containers.remove(&key)),
        }
        changes
    }
}

/// A container that is wanted: None inside if it does not run. None if that cannot be found out, which is logged.
async fn look(
    engine_id: EngineId,
    engine: &Engine,
    id: &ContainerId,
    follow: &Follow,
    slots: &Semaphore,
) -> Option<Option<(Running, File)>> {
    let mut wait = Duration::from_millis(100);
    for tries in 1.. {
        let wanted = async |it: &Running| (follow.wants)(it);
        match in_slot(slots, inspect::running(engine_id, engine, id, id.short(), wanted)).await {
            Ok(found) => return Some(found),
            Err(failed) if tries == INSPECTION_TRIES => {
                let name = failed.container.map_or_else(|| id.short().to_owned(), |it| it.name);
                log::error!("{name}: {}", failed.message);
                if let Some(help) = failed.help {
                    log::info!("hint: {help}");
                }
                return None;
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    None
}
