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
            .map(|source| {
                let (peer, size) = (self.index.peer_of(source), self.index.size_of(source));
                Task { source, peer, size, ..task.clone() }
            })
            .filter(|holder| self.peers[holder.peer].knows_parts && self.peers[holder.peer].doubt < MAX_DOUBT)
            .collect();
        holders.sort_unstable_by_key(|holder| holder.peer);
        holders
    }

    /// The peers that have the file, may be called and are not excluded, the least busy first.
    pub(in crate::client) fn holders_by_calls(&self, task: &Task, is_excluded: impl Fn(usize) -> bool) -> Vec<usize> {
        if self.states.len() > MAX_NAMES_WITH_HELP {
            return Vec::new();
        }
        let may_help = |peer: &usize| {
            let found = &self.peers[*peer];
            found.calls < MAX_CALLS_PER_PEER && found.doubt < MAX_DOUBT && !is_excluded(*peer)
        };
        let others = self.holders(task).into_iter().map(|holder| holder.peer);
        let mut peers: Vec<usize> = others.chain([task.peer]).filter(may_help).collect();
        peers.sort_by_key(|peer| self.peers[*peer].calls);
        peers
    }

    pub(in crate::client) fn begin_call(&mut self, peer: usize) {
        self.peers[peer].calls += 1;
    }

    /// Ends a call that was cancelled, which tells nothing of the peer.
    pub(in crate::client) fn cancel_call(&mut self, peer: usize) {
        self.peers[peer].calls -= 1;
    }

    /// Counts a call for the peer that it goes to in the end. The other is asked again only after a while, like one whose
    /// connection broke.
    pub(in crate::client) fn move_call(&mut self, from: &Task, to: &Task) {
        self.peers[from.peer].calls -= 1;
        self.peers[to.peer].calls += 1;
        if from.source != to.source {
            self.standings[from.source] = Standing::Broken;
        }
    }

    /// Lets a name fail as often as a new one, when more of it has come than ever.
    pub(in crate::client) fn reset_retries(&mut self, name: usize) {
        self.states[name].retries = 0;
    }
}
