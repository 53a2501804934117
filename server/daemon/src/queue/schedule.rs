//! When each message is tried: at once, and then at growing distances until it is too old.
//!
//! A message is in one of three places: in a round of delivery (bounded by `SLOTS`), waiting for
//! its time, or on disk only, where the scheduler finds it at the start and after `vmaild queue
//! flush`. Distances are those of qmgr(8): as long as the message is old, but never below
//! minimal_backoff_time nor above maximal_backoff_time; then with all others that are due at the next
//! of the runs that come every queue_run_delay. Where a lookup failed, a few seconds are enough.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use vmaild_protocol::ReversePath;

use super::file::{self, Reason, Recipient, Record, State, Unreadable};
use super::{Content, Queue, QueueId};
use crate::config::Params;
use crate::delivery::{self, bounce};
use crate::{durable, log};

/// Rounds of delivery at the same time. Far more than deliveries, so that many messages for a next
/// hop that does not answer do not keep those for Maildirs waiting.
const SLOTS: u32 = 2_000;

/// A lookup that failed is tried again this soon: databases come back quickly.
const SOON: Duration = Duration::from_secs(5);

/// How long the scheduler sleeps where nothing waits.
const IDLE: Duration = Duration::from_hours(1);

/// How often the scheduler looks for the trigger of `vmaild queue flush`.
const TRIGGER_EVERY: Duration = Duration::from_secs(1);

/// The file in queue_directory that asks for a flush.
pub const TRIGGER: &str = "flush";

/// What waits for its time.
#[derive(Debug)]
pub(crate) struct Schedule {
    began: Instant,
    waiting: Mutex<Waiting>,
    wake: Notify,
    slots: Arc<Semaphore>,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    due: BTreeSet<(Instant, QueueId)>,
    /// All that wait or are in a round: the rest is on disk only.
    known: HashSet<QueueId>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            waiting: Mutex::default(),
            wake: Notify::new(),
            slots: Arc::new(Semaphore::new(SLOTS as usize)),
            draining: AtomicBool::new(false),
        }
    }
}

/// A message of the queue, and its file: in a round of delivery.
#[derive(Debug)]
pub struct Active {
    /// What is known about it.
    pub record: Record,
    pub(crate) content: Content,
    /// Its file, open for reading and appending, for what becomes of its recipients.
    file: Arc<File>,
    /// Lines were appended that are not flushed yet.
    dirty: bool,
    /// Lines for which there was no room yet.
    unsaved: String,
}

impl Active {
    pub(crate) fn new(record: Record, content: Content, file: Arc<File>) -> Self {
        Self {
            record,
            content,
            file,
            dirty: false,
            unsaved: String::new(),
        }
    }

    /// Records what became of recipients, as one write; with the last of them done there is
    /// nothing to record, since the file goes.
    pub(crate) fn mark(&mut self, changes: Vec<(usize, State)>) {
        let mut lines = String::new();
        for (index, state) in changes {
            // Put off for the same reason again and again must not fill the disk.
            if let Some(recipient) = self.record.recipients.get_mut(index)
                && recipient.state != state
            {
                lines.push_str(&Record::line(index, &state));
                recipient.state = state;
            }
        }
        if !lines.is_empty() && self.record.is_open() {
            self.append(&lines);
        }
    }

    /// The sender was told of the delay.
    pub(crate) fn mark_warned(&mut self) {
        self.record.warned = true;
        self.append(Record::WARNED);
    }

    fn append(&mut self, lines: &str) {
        self.dirty = true;
        self.unsaved.push_str(lines);
        self.save();
    }

    /// Writes what is not in the file yet.
    fn save(&mut self) {
        match (&*self.file).write_all(self.unsaved.as_bytes()) {
            Ok(()) => self.unsaved.clear(),
            Err(error) => {
                // A part of it may be there: that line is ended, and all are written again.
                if !self.unsaved.starts_with('\n') {
                    self.unsaved.insert(0, '\n');
                }
                let id = &self.record.id;
                log!(
                    "qmgr",
                    "{id}: warning: cannot record its recipients: {error}"
                );
            }
        }
    }
}

impl Schedule {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a message wait until `when`.
    fn put(&self, id: QueueId, when: Instant) {
        let mut waiting = self.waiting();
        waiting.known.insert(id.clone());
        waiting.due.insert((when, id));
        drop(waiting);
        self.wake.notify_one();
    }

    /// A message that is being stored.
    pub(crate) fn know(&self, id: &str) {
        self.waiting().known.insert(id.to_owned());
    }

    /// A message that is gone.
    pub(crate) fn forget(&self, id: &str) {
        self.waiting().known.remove(id);
    }

    /// The next message whose time has come, or when to look again.
    fn next(&self) -> Result<QueueId, Instant> {
        let now = Instant::now();
        let due = &mut self.waiting().due;
        let when = due.first().map_or(now + IDLE, |(when, _)| *when);
        if when > now {
            return Err(when);
        }
        due.pop_first().map(|(_, id)| id).ok_or(when)
    }
}

impl Queue {
    /// A message that has just been stored: delivered at once where there is room.
    pub(super) fn start(self: &Arc<Self>, active: Active) {
        match self.schedule.slots.clone().try_acquire_owned() {
            Ok(permit) if !self.schedule.draining.load(Ordering::Relaxed) => {
                tokio::spawn(round(self.clone(), active, permit));
            }
            // It is read from its file when there is room, so a backlog takes no memory.
            _ => self.schedule.put(active.record.id, Instant::now()),
        }
    }

    /// Retries everything that is put off, now.
    pub fn flush(&self) {
        let now = Instant::now();
        let mut waiting = self.schedule.waiting();
        let due = std::mem::take(&mut waiting.due);
        waiting.due = due.into_iter().map(|(_, id)| (now, id)).collect();
        drop(waiting);
        self.schedule.wake.notify_one();
    }

    /// Starts no more deliveries, and waits for those under way for `limit` at most. What is not
    /// finished stays on disk and is taken up at the next start.
    pub async fn drain(&self, limit: Duration) {
        self.schedule.draining.store(true, Ordering::Relaxed);
        let _ = tokio::time::timeout(limit, self.schedule.slots.acquire_many(SLOTS)).await;
    }
}

/// Takes up what is in `active/`: whole messages are due now, what a crash cut off is removed.
pub(crate) async fn take_up(queue: &Arc<Queue>) -> io::Result<()> {
    let this = queue.clone();
    spawn_blocking(move || {
        let mut found = Vec::new();
        for name in ["active", "hold"] {
            for entry in fs::read_dir(this.directory.join(name))? {
                let Ok(id) = entry?.file_name().into_string() else {
                    continue;
                };
                if let Ok(number) = u64::from_str_radix(&id, 16) {
                    // Its id is taken, whatever the clock says now.
                    this.last_id.fetch_max(number, Ordering::Relaxed);
                }
                if name == "active" && !this.schedule.waiting().known.contains(&id) {
                    found.push(id);
                }
            }
        }
        found.sort();
        for id in found {
            match file::read(&this.path(&id), true) {
                Ok(_) => this.schedule.put(id, Instant::now()),
                Err(error) => give_up(&this, &id, &error),
            }
        }
        Ok(())
    })
    .await?
}

/// A file that cannot be delivered: removed if nobody was promised it, else kept for a person.
fn give_up(queue: &Queue, id: &str, error: &Unreadable) {
    let path = queue.path(id);
    let (what, result) = match error {
        Unreadable::Io(error) if error.kind() == io::ErrorKind::NotFound => return,
        Unreadable::Io(_) => ("left where it is", Ok(())),
        Unreadable::Partial => ("removed", fs::remove_file(&path)),
        Unreadable::Damaged(_) => {
            let corrupt = queue.directory.join("corrupt").join(id);
            ("moved to corrupt", fs::rename(&path, corrupt))
        }
    };
    let failed = |error| format!(" (which failed: {error})");
    let failed = result.err().map(failed).unwrap_or_default();
    let path = path.display();
    log!("qmgr", "warning: {path}: {error}; {what}{failed}");
}

/// Starts rounds as messages fall due and as there is room, for ever.
pub(crate) async fn run(queue: Arc<Queue>) {
    let schedule = &queue.schedule;
    let mut trigger = tokio::time::interval(TRIGGER_EVERY);
    loop {
        if schedule.draining.load(Ordering::Relaxed) {
            return;
        }
        let until = match schedule.next() {
            Ok(id) => {
                let Ok(permit) = schedule.slots.clone().acquire_owned().await else {
                    return;
                };
                tokio::spawn(resume(queue.clone(), id, permit));
                continue;
            }
            Err(until) => until,
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = schedule.wake.notified() => {}
            _ = trigger.tick() => {
                if fs::remove_file(queue.directory.join(TRIGGER)).is_ok() {
                    log::line("qmgr", "flush: everything is tried again");
                    queue.flush();
                    // Messages may have been released from hold.
                    if let Err(error) = take_up(&queue).await {
                        log!("qmgr", "warning: cannot read the queue: {error}");
                    }
                }
            }
        }
    }
}

/// A round for a message that is read from its file first.
async fn resume(queue: Arc<Queue>, id: QueueId, permit: OwnedSemaphorePermit) {
    let path = queue.path(&id);
    match spawn_blocking(move || file::read(&path, false)).await {
        Ok(Ok(active)) => round(queue, active, permit).await,
        Ok(Err(Unreadable::Io(error))) if error.kind() != io::ErrorKind::NotFound => {
            log!("qmgr", "{id}: warning: cannot read its file: {error}");
            queue.schedule.put(id, Instant::now() + SOON);
        }
        Ok(Err(error)) => {
            // Held or deleted by an administrator, or not what was written.
            give_up(&queue, &id, &error);
            queue.schedule.forget(&id);
        }
        Err(_) => queue.schedule.put(id, Instant::now() + SOON),
    }
}

/// One round: every waiting recipient is tried once, the sender is told what he is to be told,
/// and the message is removed or waits for its next time.
async fn round(queue: Arc<Queue>, mut active: Active, _permit: OwnedSemaphorePermit) {
    let params = queue.params();
    let id = active.record.id.clone();
    delivery::log_active(&active.record);
    let mut soon = delivery::round(&queue.delivery, &params, &mut active).await;
    expire(&params, &mut active);
    soon |= bounce::notify(&queue, &params, &mut active).await;
    if active.record.is_open() {
        // The next round reads the file: what was done must stand there, or is done again.
        while !active.unsaved.is_empty() {
            tokio::time::sleep(SOON).await;
            active.save();
        }
        if active.dirty {
            // Should this fail, a power cut could repeat deliveries; the message itself is safe.
            let _ = spawn_blocking(move || durable::flush(&active.file)).await;
        }
        let (least, most) = (params.minimal_backoff_time, params.maximal_backoff_time);
        let wait = backoff(active.record.age(), least, most);
        // A next hop that said "later" is not called on every few seconds because of a table.
        let waits = |to: &Recipient| matches!(&to.state, State::PutOff(why) if why.is_remote());
        let wait = if soon && !active.record.recipients.iter().any(waits) {
            wait.min(SOON)
        } else {
            until_run(queue.schedule.began.elapsed(), wait, params.queue_run_delay)
        };
        queue.schedule.put(id, Instant::now() + wait);
    } else {
        let (file, count) = (active.file.clone(), active.record.recipients.len());
        let path = queue.path(&id);
        let held = queue.directory.join("hold").join(&id);
        let removed = spawn_blocking(move || match fs::remove_file(path) {
            // An administrator put it on hold while it was being delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(held),
            result => result,
        });
        match removed.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                log!("qmgr", "{id}: warning: cannot remove its file: {error}");
                // So that nobody gets it again, whoever takes it up.
                let done = (0..count).map(|index| Record::line(index, &State::Done));
                let _ = (&*file).write_all(done.collect::<String>().as_bytes());
                queue.schedule.put(id, Instant::now() + SOON);
            }
            _ => {
                log!("qmgr", "{id}: removed");
                queue.schedule.forget(&id);
            }
        }
    }
}

/// How long a message of this age waits (qmgr(8)).
fn backoff(age: Duration, least: Duration, most: Duration) -> Duration {
    age.max(least).min(most.max(least))
}

/// How long it is until the first run that is at least `wait` away, `now` after the first.
fn until_run(now: Duration, wait: Duration, every: Duration) -> Duration {
    let runs = (now + wait).as_secs_f64() / every.as_secs_f64();
    (every.mul_f64(runs.ceil())).saturating_sub(now).max(wait)
}

/// What has waited for too long has failed (postconf(5) maximal_queue_lifetime,
/// bounce_queue_lifetime).
fn expire(params: &Params, active: &mut Active) {
    let lifetime = match active.record.sender {
        ReversePath::Null => params.bounce_queue_lifetime,
        ReversePath::Mailbox(_) => params.maximal_queue_lifetime,
    };
    if active.record.age() < lifetime {
        return;
    }
    let why = |recipient: &Recipient| match &recipient.state {
        State::PutOff(reason) => Some(reason.clone()),
        State::New => Some(Reason::new("4.3.0", "none", "delivery ended early")),
        _ => None,
    };
    let recipients = (0..).zip(&active.record.recipients);
    let expired: Vec<_> = recipients
        .filter_map(|(index, recipient)| Some((index, State::Failed(why(recipient)?))))
        .collect();
    if !expired.is_empty() {
        let (id, sender) = (&active.record.id, &active.record.sender);
        log!(
            "qmgr",
            "{id}: from={sender}, status=expired, returned to sender"
        );
        active.mark(expired);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::at_a_run(600, 300, 300)]
    #[case::between_runs(650, 300, 550)]
    #[case::never_earlier(899, 300, 301)]
    #[case::long_distances(10, 4000, 4190)]
    fn mail_that_was_put_off_waits_for_a_run(#[case] now: u64, #[case] wait: u64, #[case] is: u64) {
        let [now, wait, is] = [now, wait, is].map(Duration::from_secs);
        assert_eq!(until_run(now, wait, Duration::from_mins(5)), is);
    }

    #[rstest]
    #[case::at_first([0, 300, 4_000], 300)]
    #[case::as_long_as_it_is_old([1_000, 300, 4_000], 1_000)]
    #[case::not_longer_than_that([9_999, 300, 4_000], 4_000)]
    #[case::the_least_goes_before_the_most([100, 600, 60], 600)]
    fn the_distance_of_tries_grows_with_the_age(#[case] of: [u64; 3], #[case] wait: u64) {
        let [age, least, most] = of.map(Duration::from_secs);
        assert_eq!(backoff(age, least, most), Duration::from_secs(wait));
    }
}
