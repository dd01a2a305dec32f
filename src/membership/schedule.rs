//! Which peers are to be called and when, and which calls are in progress.
//!
//! Peers are known by their index. At most one call to a peer is planned or in progress at a time, so nobody is called
//! twice at once.

use std::{collections::BTreeMap, time::Duration};

/// The most calls in progress, the hanging ones among them: each takes a thread and a descriptor.
pub(super) const MAX_CALLS: usize = 256;

/// The most calls in progress that are not yet [`HANGING`]: more would only wait for the same processor and wires.
pub(super) const MAX_RECENT_CALLS: usize = 16;

/// A call that has taken as long will most likely hang, and no longer keeps others from being started.
pub(super) const HANGING: Duration = Duration::from_secs(1);

/// The calls of one server, planned and in progress.
#[derive(Clone, Debug, Default)]
pub(super) struct CallSchedule {
    planned: BTreeMap<usize, Duration>,
    /// When each call in progress was started, the earliest first.
    running: Vec<(Duration, usize)>,
}

impl CallSchedule {
    /// Plans to call a peer at that time and no other; does nothing while a call to it is in progress.
    pub(super) fn plan(&mut self, index: usize, at: Duration) {
        if !self.is_running(index) {
            self.planned.insert(index, at);
        }
    }

    /// Starts the calls whose time has come, the earliest first, as far as the limits allow, and returns whom they go to.
    pub(super) fn start_due(&mut self, now: Duration) -> Vec<usize> {
        let recent = self.running.iter().filter(|&&(started, _)| started + HANGING > now).count();
        let room = MAX_RECENT_CALLS.saturating_sub(recent).min(MAX_CALLS - self.running.len());
        let mut due: Vec<_> =
            self.planned.iter().map(|(&index, &at)| (at, index)).filter(|&(at, _)| at <= now).collect();
        due.sort_unstable();
        due.truncate(room);
        for &(_, index) in &due {
            self.planned.remove(&index);
            self.running.push((now, index));
        }
        due.into_iter().map(|(_, index)| index).collect()
    }

    /// Ends the call to a peer; returns whether one was in progress.
    pub(super) fn finish(&mut self, index: usize) -> bool {
        let calls = self.running.len();
        self.running.retain(|&(_, running)| running != index);
        self.running.len() < calls
    }

    /// When the next call can be started; `None` if none is planned, or none can be before another ends.
    pub(super) fn next_start(&self) -> Option<Duration> {
        let first = *self.planned.values().min()?;
        if self.running.len() >= MAX_CALLS {
            return None;
        }
        let oldest_recent = self.running.len().checked_sub(MAX_RECENT_CALLS);
        Some(oldest_recent.map_or(first, |oldest| first.max(self.running[oldest].0 + HANGING)))
    }

    /// Whether no call to a peer is planned or in progress.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        !self.planned.contains_key(&index) && !self.is_running(index)
    }

    /// Whether no call is in progress, nor any planned by now.
    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        self.running.is_empty() && self.planned.values().all(|&at| at > now)
    }

    /// Whether a call to a peer is in progress.
    pub(super) fn is_running(&self, index: usize) -> bool {
        self.running.iter().any(|&(_, running)| running == index)
    }
}
