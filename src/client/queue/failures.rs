//! What becomes of a name that a source did not give: it waits for another, or for the time to ask again, or is lost.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{DownloadQueue, MAX_DOUBT, Outcome, Progress, SourceFailure, Standing, State, Task};
use crate::file_name::FileName;

/// How often a name is asked for again whose connections broke: with the first time, three attempts.
const MAX_RETRIES: u8 = 2;

/// How long a name waits before it is asked for again: a peer that restarts may be back by then.
#[cfg(not(test))]
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Longer than any test takes, which asks with the time it wants.
#[cfg(test)]
const RETRY_DELAY: Duration = Duration::from_secs(600);

/// A name that may be asked for again.
pub(super) struct Retry {
    pub(super) due: Instant,
    name: usize,
}

impl DownloadQueue {
    /// Hands a name that its source did not give to the others; what came of the name where there are none.
    pub(in crate::client) fn fail(&mut self, task: &Task, failure: SourceFailure) -> Option<Outcome> {
        // One that breaks off again while another may give it is not asked a third time.
        let is_other = |source: usize| source != task.source && self.standings[source] == Standing::Broken;
        let has_other = self.index.sources(task.name_id).any(is_other);
        let is_last_time = self.states[task.name_id].retries > 0 && has_other;
        let is_break = failure == SourceFailure::ConnectionLost && !is_last_time;
        self.standings[task.source] = if is_break { Standing::Broken } else { Standing::Failed };
        let state = &mut self.states[task.name_id];
        state.is_file |= failure != SourceFailure::Directory;
        state.may_come_later |= matches!(failure, SourceFailure::ConnectionLost | SourceFailure::Passing);
        self.settle(task.name_id)
    }

    /// The names that nobody who lists them will give another time either.
    pub(in crate::client) fn refused(&self) -> impl Iterator<Item = FileName> {
        let is_refused = |state: &State| state.progress == Progress::Failed && !state.may_come_later;
        (0..self.states.len()).filter(move |name| is_refused(&self.states[*name])).map(|name| self.index.name(name))
    }

    /// Whether a name is asked for again if the connection to this source, and no other, is lost.
    pub(in crate::client) fn will_retry(&self, task: &Task) -> bool {
        let mut others = self.index.sources(task.name_id).filter(|source| *source != task.source);
        self.states[task.name_id].retries < MAX_RETRIES
            && others.all(|other| self.standings[other] != Standing::NotAsked)
    }

    /// Gives up a peer that did not answer again and again, if all have listed: how many names nobody will give now.
    pub(in crate::client) fn give_up_unanswering(&mut self, peer: usize) -> usize {
        if !self.is_complete || self.peers[peer].doubt < MAX_DOUBT {
            return 0;
        }
        let mut lost = 0;
        for source in self.peers[peer].sources.clone() {
            let before = mem::replace(&mut self.standings[source], Standing::Failed);
            let name = self.index.name_of(source);
            let may_be_lost = match self.states[name].progress {
                Progress::Waiting | Progress::Postponed => !self.has(name, Standing::NotAsked),
                Progress::Delayed => !self.has(name, Standing::Broken),
                Progress::UnderWay | Progress::Done | Progress::Failed => false,
            };
            if may_be_lost && before != Standing::Failed {
                self.states[name].is_file = true;
                self.states[name].may_come_later = true;
                lost += usize::from(self.settle(name).is_some());
            }
        }
        lost
    }

    /// Decides what becomes of a name after a failure: it waits for another source, for the time to ask again, or for
    /// listings that are still to come, or it is lost.
    pub(super) fn settle(&mut self, name: usize) -> Option<Outcome> {
        if self.has(name, Standing::NotAsked) {
            self.requeue(name);
            return None;
        }
        if self.states[name].retries < MAX_RETRIES && self.has(name, Standing::Broken) {
            self.states[name].retries += 1;
            self.set_progress(name, Progress::Delayed);
            self.delayed.push_back(Retry { due: Instant::now() + RETRY_DELAY, name });
            return None;
        }
        if !self.is_complete {
            self.set_progress(name, Progress::Waiting);
            return None;
        }
        let outcome = if self.states[name].is_file { Outcome::Failed } else { Outcome::Directory };
        self.finish(name, outcome);
        Some(outcome)
    }

    /// Whether a name has a source of this standing.
    pub(super) fn has(&self, name: usize, standing: Standing) -> bool {
        self.index.sources(name).any(|source| self.standings[source] == standing)
    }

    /// Lets the names whose time has come be asked of the peers whose connections broke.
    pub(super) fn requeue_delayed(&mut self, now: Instant) {
        while let Some(&Retry { due, name }) = self.delayed.front()
            && due <= now
        {
            self.delayed.pop_front();
            if self.states[name].progress != Progress::Delayed {
                continue;
            }
            for source in self.index.sources(name) {
                if self.standings[source] == Standing::Broken {
                    self.standings[source] = Standing::NotAsked;
                }
            }
            self.requeue(name);
        }
    }

    /// Lets a name wait again, before all that its peers have not been asked for.
    pub(super) fn requeue(&mut self, name: usize) {
        self.set_progress(name, Progress::Waiting);
        for source in self.index.sources(name) {
            let peer = &mut self.peers[self.index.peer_of(source)];
            peer.cursor = peer.cursor.min(source);
        }
    }
}
