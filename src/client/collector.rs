//! Collects the listings of many peers at once, in bounded memory.
//!
//! When all listings together want more memory than there is, the largest is dropped, finished or not: so who lists too
//! much harms itself and not those who list little. A listing that is handed out can be dropped no more, so it is handed
//! out only when it can never be the largest.

use std::{
    iter, mem,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{error::CallError, file_name::FileName, lock::lock};

/// The memory in bytes that a name takes beside its own bytes: here, and in the index and the queue later on.
const COST_OF_NAME: usize = 40;

/// The bytes of a file's details in a block, and as many again in the index later on.
pub(super) const DETAILS_BYTES: usize = 12;

/// The most bytes of a block. Listings grow by blocks, for a long run of bytes that is moved to grow leaves holes that
/// only some threads can fill; and an offset into a block fits into a `u16`.
const BLOCK_BYTES: usize = 16 << 10;

/// The listings as they come in.
pub(super) struct ListingCollector {
    /// The most bytes of memory that all of them may take.
    capacity: usize,
    state: Mutex<State>,
}

struct State {
    /// By peer: what has come and was not handed out, or why there is nothing.
    listings: Vec<Result<Listing, CallError>>,
    /// By peer: whether nothing more is to come.
    has_ended: Vec<bool>,
    /// The bytes of memory that all of them take, those that were handed out too.
    used: usize,
}

/// A whole listing and the peer that it is of.
pub(super) struct PeerListing {
    pub(super) peer: usize,
    pub(super) listing: Listing,
}

/// What a peer tells of a file beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Details {
    /// Its size in bytes.
    pub(super) size: u64,
    /// When its content was last changed, in seconds since 1970 by the clock of this side.
    pub(super) modified: u32,
}

impl Details {
    /// Of a file of this size in bytes that was last changed this number of seconds ago.
    pub(super) fn new(size: u64, age: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { size, modified: u32::try_from(now.saturating_sub(age)).unwrap_or(u32::MAX) }
    }

    fn to_bytes(self) -> [u8; DETAILS_BYTES] {
        let mut bytes = [0; DETAILS_BYTES];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.modified.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; DETAILS_BYTES]) -> Self {
        let (size, modified) = bytes.split_first_chunk().expect("they are longer than a size");
        let modified = modified.first_chunk().expect("they end with a time");
        Self { size: u64::from_le_bytes(*size), modified: u32::from_le_bytes(*modified) }
    }
}

/// The names that one peer lists, each as a byte of its length, its bytes and, in an index, its file's details.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) blocks: Vec<Vec<u8>>,
    pub(super) names: usize,
    /// Whether it came as an index: the peer told all details, and sends packs.
    pub(super) is_index: bool,
    /// The bytes of memory that it takes, now and later.
    cost: usize,
}

impl Listing {
    fn add(&mut self, name: &[u8], details: Option<Details>) {
        self.is_index = details.is_some();
        if self.blocks.last().is_none_or(|block| block.len() + 1 + name.len() + DETAILS_BYTES > BLOCK_BYTES) {
            // Most listings do not fill one.
            let capacity = if self.blocks.is_empty() { 0 } else { BLOCK_BYTES };
            self.blocks.push(Vec::with_capacity(capacity));
        }
        let block = self.blocks.last_mut().expect("there is one now");
        block.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
        block.extend_from_slice(name);
        self.names += 1;
        self.cost += 1 + name.len() + COST_OF_NAME;
        if let Some(details) = details {
            block.extend_from_slice(&details.to_bytes());
            self.cost += 2 * DETAILS_BYTES;
        }
    }
}

impl ListingCollector {
    /// Collects from this many peers, in this many bytes.
    pub(super) fn new(peers: usize, capacity: usize) -> Self {
        let listings = iter::repeat_with(|| Ok(Listing::default())).take(peers).collect();
        Self { capacity, state: Mutex::new(State { listings, has_ended: vec![false; peers], used: 0 }) }
    }

    /// Adds a name to the listing of a peer, with its file's details where the peer tells them. Fails when the listing
    /// has been dropped.
    pub(super) fn add(&self, peer: usize, name: &FileName, details: Option<Details>) -> Result<(), CallError> {
        let mut state = lock(&self.state);
        let Ok(listing) = &mut state.listings[peer] else { return Err(CallError::OverBudget) };
        let before = listing.cost;
        listing.add(name.as_str().as_bytes(), details);
        state.used += listing.cost - before;
        while state.used > self.capacity {
            let largest = (0..state.listings.len()).max_by_key(|peer| state.cost(*peer));
            state.drop_listing(largest.expect("there is this one"), CallError::OverBudget);
        }
        if state.listings[peer].is_ok() { Ok(()) } else { Err(CallError::OverBudget) }
    }

    /// Forgets what has come of a listing, which begins anew even if it has been dropped.
    pub(super) fn restart(&self, peer: usize) {
        let mut state = lock(&self.state);
        state.used -= state.cost(peer);
        state.listings[peer] = Ok(Listing::default());
    }

    /// Ends the listing of a peer; what has come of it is dropped after a failure.
    pub(super) fn end(&self, peer: usize, failure: Option<CallError>) {
        let mut state = lock(&self.state);
        state.has_ended[peer] = true;
        if let Some(failure) = failure {
            state.drop_listing(peer, failure);
        }
    }

    /// Hands out the whole listings that can never be the largest when there is too little memory.
    ///
    /// Those that have not ended want more than is left only if one of them wants more than its equal part of that. What
    /// is smaller than such a part is not the largest then.
    pub(super) fn take_ready(&self) -> Vec<PeerListing> {
        let mut state = lock(&self.state);
        let peers = 0..state.listings.len();
        let unended: Vec<usize> = peers.clone().filter(|peer| !state.has_ended[*peer]).collect();
        let used_by_unended: usize = unended.iter().map(|peer| state.cost(*peer)).sum();
        let left = self.capacity - (state.used - used_by_unended);
        let largest = left.checked_div(unended.len()).unwrap_or(self.capacity);
        let mut ready = Vec::new();
        for peer in peers {
            let is_ready = state.has_ended[peer] && (1..=largest).contains(&state.cost(peer));
            if is_ready && let Ok(listing) = &mut state.listings[peer] {
                ready.push(PeerListing { peer, listing: mem::take(listing) });
            }
        }
        ready
    }

    /// The peers that gave no listing, and why.
    pub(super) fn into_failures(self) -> impl Iterator<Item = (usize, CallError)> {
        let listings = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).listings;
        listings.into_iter().enumerate().filter_map(|(peer, listing)| Some((peer, listing.err()?)))
    }
}

impl State {
    fn cost(&self, peer: usize) -> usize {
        self.listings[peer].as_ref().map_or(0, |listing| listing.cost)
    }

    fn drop_listing(&mut self, peer: usize, failure: CallError) {
        self.used -= self.cost(peer);
        self.listings[peer] = Err(failure);
    }
}

/// A whole listing, with these details or none.
#[cfg(test)]
pub(super) fn listing_with_details<'a>(files: impl IntoIterator<Item = (&'a str, Option<Details>)>) -> Listing {
    let collector = ListingCollector::new(1, 1 << 20);
    for (name, details) in files {
        collector.add(0, &FileName::from_bytes(name.as_bytes()).unwrap(), details).unwrap();
    }
    collector.end(0, None);
    collector.take_ready().pop().map_or_else(Listing::default, |ready| ready.listing)
}

/// A whole listing without details.
#[cfg(test)]
pub(super) fn listing(names: &[&str]) -> Listing {
    listing_with_details(names.iter().map(|name| (*name, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds this many names; how many were taken before the listing was dropped.
    fn add(collector: &ListingCollector, peer: usize, count: usize) -> usize {
        let names = (0..count).map(|number| FileName::from_bytes(format!("file{number:06}").as_bytes()).unwrap());
        names.take_while(|name| collector.add(peer, name, None).is_ok()).count()
    }

    /// By peer: how many names it has listed when all have ended.
    fn sizes(collector: &ListingCollector) -> Vec<usize> {
        let mut sizes = vec![0; lock(&collector.state).listings.len()];
        (0..sizes.len()).for_each(|peer| collector.end(peer, None));
        for PeerListing { peer, listing } in collector.take_ready() {
            sizes[peer] = listing.names;
        }
        sizes
    }

    #[test]
    fn a_listing_that_fails_is_forgotten() {
        let collector = ListingCollector::new(3, 1_000_000);
        assert_eq!(add(&collector, 0, 19_000), 19_000);
        collector.end(0, Some(CallError::Refused));
        assert_eq!(add(&collector, 1, 19_000), 19_000, "it has the room of the other");
        assert_eq!(sizes(&collector), [0, 19_000, 0]);
    }

    #[test]
    fn the_largest_listing_gives_way_wherever_it_stands() {
        let collector = ListingCollector::new(5, 3_000_000);
        assert_eq!(add(&collector, 0, 10), 10);
        assert_eq!(add(&collector, 1, 25_000), 25_000);
        let hoarded = add(&collector, 2, 1_000_000);
        assert!((33_000..35_000).contains(&hoarded), "{hoarded}");
        assert_eq!(add(&collector, 3, 29_000), 29_000);
        assert_eq!(add(&collector, 4, 5_000), 5_000);
        assert_eq!(sizes(&collector), [10, 25_000, 0, 0, 5_000]);
    }
    #[test]
    fn what_is_handed_out_is_never_the_largest() {
        let collector = ListingCollector::new(4, 3_000_000);
        let ready = || collector.take_ready().into_iter().map(|ready| ready.peer).collect::<Vec<_>>();
        assert_eq!(add(&collector, 0, 20_000), 20_000);
        assert_eq!(add(&collector, 1, 5_000), 5_000);
        assert_eq!(ready(), [0; 0], "they have not ended");
        collector.end(0, None);
        collector.end(1, None);
        assert_eq!(ready(), [1], "the other could be the largest");
        collector.end(2, Some(CallError::Refused));
        assert_eq!(ready(), [0]);
        let hoarded = add(&collector, 3, 1_000_000);
        assert!((33_000..35_000).contains(&hoarded), "{hoarded}: it has all that is left");
        collector.end(3, None);
        assert_eq!(ready(), [0; 0], "it was dropped");
    }
}
