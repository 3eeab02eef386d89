//! The thread for kernel work. It performs one job after the other, so that the loop can always answer.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::api::{Diff, Difference, DifferenceKind, Problem, distinct};
use crate::container::{Container, ContainerId};
use crate::daemon::serve::Connection;
use crate::daemon::{Message, Mode, Print};
use crate::kernel::{self, Kernel};
use crate::plan::{Failure, Ns, Outcome, Subject};
use crate::process::node;
use crate::reconcile::{About, EngineId, Event, Found, Job, Unreachable};
use crate::wire;

/// Work for the thread.
pub(super) enum Work {
    /// Open a container's namespace.
    Attach(Box<Attach>),
    /// Close a container's namespace.
    Detach(ContainerId),
    Converge(Box<Job>),
    /// Compare the kernel with these jobs, and answer the clients.
    Diff(Vec<Job>, Vec<Connection>),
    /// Read kernel notifications about changes by other programs.
    ReadNotices,
    /// Return the pidfds of the Open vSwitch daemons.
    FollowSwitch,
    /// Stop Open vSwitch if conlink started it. This is the last work.
    StopSwitch,
}

/// A container whose namespace is to be opened.
pub(super) struct Attach {
    pub(super) engine: EngineId,
    pub(super) ticket: u64,
    pub(super) container: Container,
    pub(super) netns: File,
    /// Set its `lo` up.
    pub(super) loopback: bool,
}

/// The result of [`Work`].
#[derive(Debug)]
pub(super) enum Worked {
    Event(Event),
    /// The answer of [`Work::Diff`].
    Diff(Diff, Vec<Connection>),
    /// [`Work::ReadNotices`] is done. What it found was sent before.
    NoticesRead,
    /// Pidfds, readable when an Open vSwitch daemon ends.
    Switch(Vec<OwnedFd>),
    SwitchStopped(Result<(), kernel::Error>),
}

/// The loop's handle of the worker.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// Locked during work.
    busy: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    closed: bool,
}

impl Worker {
    /// Starts the thread, which sends its results to `sender`.
    pub(super) fn start(
        kernel: Kernel,
        mode: Mode,
        print: Print,
        sender: mpsc::UnboundedSender<Message>,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut thread_state = WorkerThread { kernel, mode, print, sender, switch_is_followed: false };
        let queue = shared.clone();
        let (started, starts) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || {
                drop::<std::sync::mpsc::Sender<()>>(started);
                while let Some(work) = queue.next() {
                    let busy = queue.busy();
                    thread_state.work(work);
                    drop(busy);
                }
            })
            .context("start a thread")?;
        // The thread has started when it drops the other end.
        let _ = starts.recv();
        node::add_resting_thread();
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Queues work.
    pub(super) fn push(&self, work: Work) {
        self.shared.queue().work.push_back(work);
        self.shared.filled.notify_one();
    }

    /// Queues a comparison of the kernel with these jobs. A queued comparison that has not begun serves this client too.
    pub(super) fn push_diff(&self, jobs: Vec<Job>, client: Connection) {
        self.shared.queue().add_diff(jobs, client);
        self.shared.filled.notify_one();
    }

    /// Removes all work from the queue that has not begun.
    pub(super) fn clear(&self) {
        self.shared.queue().work.clear();
    }

    /// Waits until the thread is idle, and keeps it idle until the guard is dropped: when `clone(2)` copies the
    /// process, no other thread may hold a lock of a library.
    pub(super) fn pause(&self) -> MutexGuard<'_, ()> {
        self.shared.busy()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        queue.work.clear();
        drop(queue);
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn add_diff(&mut self, jobs: Vec<Job>, client: Connection) {
        let queued = self.work.iter_mut().find_map(|it| match it {
            Work::Diff(jobs, clients) => Some((jobs, clients)),
            _ => None,
        });
        match queued {
            Some((queued, clients)) => {
                // The state at the time of the last request.
                *queued = jobs;
                clients.push(client);
            }
            None => self.work.push_back(Work::Diff(jobs, vec![client])),
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next work. None at the end.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The state of the thread.
struct WorkerThread {
    kernel: Kernel,
    mode: Mode,
    print: Print,
    sender: mpsc::UnboundedSender<Message>,
    switch_is_followed: bool,
}

impl WorkerThread {
    fn work(&mut self, work: Work) {
        match work {
            Work::Attach(it) => {
                let event = self.attach(*it);
                self.send(Worked::Event(event));
            }
            Work::Detach(id) => self.kernel.detach(&id),
            Work::Converge(job) => {
                let outcome = self.converge(&job);
                self.send(Worked::Event(Event::Done { job: job.number, outcome }));
                self.follow_switch();
                // Notifications that arrived during the job and were not covered by its checks.
                self.read_notices();
            }
            Work::Diff(jobs, clients) => {
                let diff = self.diff(&jobs);
                self.send(Worked::Diff(diff, clients));
                self.read_notices();
            }
            Work::ReadNotices => {
                self.read_notices();
                self.send(Worked::NoticesRead);
            }
            Work::FollowSwitch => {
                self.switch_is_followed = false;
                self.follow_switch();
            }
            Work::StopSwitch => {
                let result = self.kernel.stop_ovs();
                self.send(Worked::SwitchStopped(result));
            }
        }
    }

    /// Sends a result. It is lost if the loop has already ended.
    fn send(&self, worked: Worked) {
        let _ = self.sender.send(Message::Worked(worked));
    }

    fn attach(&mut self, attach: Attach) -> Event {
        let Attach { engine, ticket, container, netns, loopback } = attach;
        let id = container.id.clone();
        let attached = self.kernel.attach_netns(&id, netns).and_then(|inode| {
            if loopback {
                self.kernel.loopback_up(&Ns::Container(id.clone()))?;
            }
            Ok(inode)
        });
        match attached {
            Ok(netns) => Event::Inspected { engine, id, ticket, found: Some(Found { container, netns }) },
            Err(error) if error.is_gone() => Event::Inspected { engine, id, ticket, found: None },
            Err(error) => Event::Unreachable(Unreachable {
                engine,
                id,
                container: Some(container),
                ticket,
                message: error.to_string(),
                help: error.hint().map(str::to_owned),
            }),
        }
    }

    fn converge(&mut self, job: &Job) -> Outcome {
        let mut outcome = match self.mode {
            Mode::Run | Mode::Once => wire::converge(&mut self.kernel, &job.desired),
            Mode::DryRun => self.preview(job),
        };
        outcome.failures.splice(0..0, job.refused.iter().cloned());
        outcome
    }

    /// Compares everything with the kernel without changing anything.
    fn diff(&mut self, jobs: &[Job]) -> Diff {
        let (mut differences, mut errors) = (Vec::new(), Vec::new());
        let mut add = |kind, subject: &Subject, what| {
            differences.push(Difference { kind, subject: subject.to_string(), what });
        };
        for job in jobs {
            let mut failures = job.refused.clone();
            // What a comparison finds is not kept, so the changes must be heard of too.
            match self.kernel.keeping_notices(|it| wire::diff(it, &job.desired)) {
                Err(failure) => failures.push(*failure),
                Ok((drift, plan)) => {
                    let drifted =
                        drift.iter().flat_map(|(subject, it)| it.iter().map(move |it| (subject, it)));
                    for (subject, what) in drifted {
                        add(DifferenceKind::Drift, subject, what.clone());
                    }
                    for group in &plan.groups {
                        for step in &group.steps {
                            add(DifferenceKind::Pending, &group.subject, step.to_string());
                        }
                    }
                    failures.extend(plan.problems.iter().map(Failure::from));
                }
            }
            errors.extend(failures.iter().map(Problem::from));
        }
        // Jobs of several containers check the same bridges.
        Diff { differences: distinct(differences.into_iter()), errors: distinct(errors.into_iter()) }
    }

    /// Prints the plan.
    fn preview(&mut self, job: &Job) -> Outcome {
        let mut plan = match wire::preview(&mut self.kernel, &job.desired) {
            Ok(plan) => plan,
            Err(failure) => return Outcome { failures: vec![*failure], ..Outcome::default() },
        };
        if matches!(job.about, About::Containers(_)) {
            // The plan of each container includes the bridges it needs, so without applying them they would be printed
            // again.
            plan.groups.retain(|it| !matches!(it.subject, Subject::Bridge(_)));
        }
        if let Err(error) = (self.print)(&plan.to_string()) {
            log::debug!("print the plan: {error:#}");
        }
        Outcome { failures: plan.problems.iter().map(Failure::from).collect(), ..Outcome::default() }
    }

    fn read_notices(&mut self) {
        let news = self.kernel.news();
        if !news.is_empty() {
            log::trace!("{news:?}");
            self.send(Worked::Event(Event::Changed(news)));
        }
    }

    fn follow_switch(&mut self) {
        if !self.switch_is_followed
            && let Some(files) = self.kernel.watch_ovs()
        {
            self.switch_is_followed = true;
            self.send(Worked::Switch(files));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comparison_serves_all_clients_that_ask_before_it_begins() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut queue = Queue::default();
            queue.work.push_back(Work::ReadNotices);
            for _ in 0..10 {
                queue.add_diff(Vec::new(), Connection::to_nobody());
            }
            let (Some(Work::ReadNotices), Some(Work::Diff(_, clients)), None) =
                (queue.work.pop_front(), queue.work.pop_front(), queue.work.front())
            else {
                panic!("another order");
            };
            assert_eq!(clients.len(), 10);
            // A comparison that has begun may be older than the next request.
            queue.add_diff(Vec::new(), Connection::to_nobody());
            assert!(matches!(queue.work.front(), Some(Work::Diff(_, clients)) if clients.len() == 1));
        });
    }
}
