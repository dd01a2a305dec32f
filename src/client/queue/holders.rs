//! Who else has a file: peers that may help with a large one, or agree with what is here of it.

use super::{DownloadQueue, MAX_CALLS_PER_PEER, MAX_DOUBT, Standing, Task};

/// With more names than this nobody helps: the memory that blocks take is that of as many names.
const MAX_NAMES_WITH_HELP: usize = 400_000;

impl DownloadQueue {
    /// The same file at the other peers that know parts and did not fail to give it, in the order of the peer list.
    pub(in crate::client) fn holders(&self, task: &Task) -> Vec<Task> {
        let mut holders: Vec<Task> = self
            .index
            .sources(task.name_id)
            .filter(|source| *source != task.source && self.standings[*source] != Standing::Failed)
            .map(|source| Task { source, peer: self.index.peer_of(source), ..task.clone() })
            .filter(|holder| self.peers[holder.peer].knows_parts)
            .collect();
        holders.sort_unstable_by_key(|holder| holder.peer);
        holders
    }

    /// The least busy of all peers that have the file and are not excluded.
    pub(in crate::client) fn least_busy_holder(
        &self,
        task: &Task,
        is_excluded: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.states.len() > MAX_NAMES_WITH_HELP {
            return None;
        }
        let may_help = |peer: &usize| {
            let found = &self.peers[*peer];
            found.calls < MAX_CALLS_PER_PEER && found.doubt < MAX_DOUBT && !is_excluded(*peer)
        };
        let others = self.holders(task).into_iter().map(|holder| holder.peer);
        others.chain([task.peer]).filter(may_help).min_by_key(|peer| self.peers[*peer].calls)
    }

    pub(in crate::client) fn begin_call(&mut self, peer: usize) {
        self.peers[peer].calls += 1;
    }

    /// Counts a call for the peer that it goes to in the end.
    pub(in crate::client) fn move_call(&mut self, from: &Task, to: &Task) {
        self.peers[from.peer].calls -= 1;
        self.peers[to.peer].calls += 1;
    }

    /// Lets a name of which more has come than ever fail as often as a new one.
    pub(in crate::client) fn has_progressed(&mut self, name: usize) {
        self.states[name].retries = 0;
    }
}
