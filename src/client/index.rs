//! What the peers list, in bounded memory.
//!
//! Names lie packed in pieces, each as a byte of its length and its bytes, and everything else speaks of them by
//! position. When all listings together want more room than there is, the largest is dropped, finished or not: so
//! who lists too much harms itself and not those who list little.

use std::{
    iter, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{error::CallError, file_name::FileName, lock::lock};

/// The memory in bytes that a name takes beside its own bytes, in here and in the schedule.
const COST_OF_NAME: usize = 40;

/// The bytes that a reader gathers by itself before it asks for room.
const PIECE_BYTES: usize = 16 << 10;

/// The listings as they come in, from many readers at once.
pub(super) struct ListingCollector(Mutex<State>);

struct State {
    room: usize,
    listings: Vec<Listing>,
    /// Pieces of listings that were dropped, to be filled again: given back to the allocator by one thread, they would
    /// not serve the others.
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Listing {
    pieces: Vec<Vec<u8>>,
    names: usize,
    /// The memory that it takes in bytes, now and later.
    cost: usize,
    is_dropped: bool,
}

impl ListingCollector {
    /// For so many peers, in so many bytes.
    pub(super) fn new(peers: usize, room: usize) -> Self {
        let listings = iter::repeat_with(Listing::default).take(peers).collect();
        Self(Mutex::new(State { room, listings, spare: Vec::new() }))
    }

    /// Begins the listing of a peer, by its place on the peer list.
    pub(super) fn begin(&self, peer: usize) -> ListingWriter<'_> {
        ListingWriter { intake: self, peer, piece: Vec::new(), names: 0 }
    }

    /// Sorts all names; `lost` is told of each listing that was finished and dropped later.
    pub(super) fn finish(self, mut lost: impl FnMut(usize)) -> FileIndex {
        let listings = self.0.into_inner().unwrap_or_else(PoisonError::into_inner).listings;
        let mut entries = Vec::with_capacity(listings.iter().map(|listing| listing.names).sum());
        let mut pieces = Vec::new();
        for (peer, listing) in listings.into_iter().enumerate() {
            if listing.is_dropped {
                lost(peer);
            }
            let peer = u16::try_from(peer).expect("a peer list is shorter than 2^16");
            for piece in listing.pieces {
                let number = u32::try_from(pieces.len()).expect("the room has fewer pieces than 2^32");
                let mut offset = 0;
                while let Some(&length) = piece.get(offset) {
                    let at = u16::try_from(offset).expect("a piece is shorter than 2^16");
                    entries.push(Entry { piece: number, offset: at, peer });
                    offset += 1 + usize::from(length);
                }
                pieces.push(piece);
            }
        }
        FileIndex::new(pieces, entries)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// A listing that is being read. What is not finished is forgotten.
pub(super) struct ListingWriter<'a> {
    intake: &'a ListingCollector,
    peer: usize,
    piece: Vec<u8>,
    names: usize,
}

impl ListingWriter<'_> {
    /// Adds a name. Fails when this listing has been dropped.
    pub(super) fn add(&mut self, name: &FileName) -> Result<(), CallError> {
        let name = name.as_str().as_bytes();
        if self.piece.len() + 1 + name.len() > PIECE_BYTES {
            self.hand_over()?;
        }
        self.piece.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
        self.piece.extend_from_slice(name);
        self.names += 1;
        Ok(())
    }

    /// Ends the listing: it is whole.
    pub(super) fn finish(mut self) -> Result<(), CallError> {
        self.piece.shrink_to_fit();
        self.hand_over()?;
        // Nothing is left to be forgotten.
        self.peer = usize::MAX;
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), CallError> {
        let mut state = self.intake.state();
        let names = mem::take(&mut self.names);
        let piece = mem::replace(&mut self.piece, state.spare.pop().unwrap_or_default());
        let cost = piece.len() + names * COST_OF_NAME;
        let listing = &mut state.listings[self.peer];
        if !listing.is_dropped {
            listing.names += names;
            listing.cost += cost;
            listing.pieces.push(piece);
            state.make_room();
        }
        if state.listings[self.peer].is_dropped { Err(CallError::OverBudget) } else { Ok(()) }
    }
}

impl Drop for ListingWriter<'_> {
    fn drop(&mut self) {
        let mut state = self.intake.state();
        if self.peer < state.listings.len() {
            state.empty(self.peer);
        }
    }
}

impl State {
    fn make_room(&mut self) {
        while self.listings.iter().map(|listing| listing.cost).sum::<usize>() > self.room {
            let largest = (0..self.listings.len()).max_by_key(|&peer| self.listings[peer].cost);
            let largest = largest.expect("there is a listing that costs something");
            self.empty(largest);
            self.listings[largest].is_dropped = true;
        }
    }

    fn empty(&mut self, peer: usize) {
        for mut piece in mem::take(&mut self.listings[peer]).pieces {
            piece.clear();
            self.spare.push(piece);
        }
    }
}

/// All names in order, each with the peers that list it.
pub(super) struct FileIndex {
    pieces: Vec<Vec<u8>>,
    /// Sorted by name, and those of one name by peer.
    entries: Vec<Entry>,
    /// Where the entries of each name begin.
    starts: Vec<u32>,
}

/// A name in the listing of a peer.
#[derive(Clone, Copy)]
struct Entry {
    piece: u32,
    offset: u16,
    peer: u16,
}

impl Entry {
    fn name(self, pieces: &[Vec<u8>]) -> &[u8] {
        let from_length = &pieces[self.piece as usize][usize::from(self.offset)..];
        &from_length[1..=usize::from(from_length[0])]
    }
}

impl FileIndex {
    /// Takes entries in the order of their peers.
    fn new(pieces: Vec<Vec<u8>>, mut entries: Vec<Entry>) -> Self {
        // Stable, and quick where listings are sorted already, as ours are.
        entries.sort_by(|one, other| one.name(&pieces).cmp(other.name(&pieces)));
        entries.dedup_by(|one, other| one.peer == other.peer && one.name(&pieces) == other.name(&pieces));
        let mut starts = Vec::with_capacity(entries.len());
        let mut last = None;
        for (index, entry) in entries.iter().enumerate() {
            let name = entry.name(&pieces);
            if last != Some(name) {
                last = Some(name);
                starts.push(u32::try_from(index).expect("the room has fewer names than 2^32"));
            }
        }
        Self { pieces, entries, starts }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many times a peer holds a name.
    pub(super) fn holdings(&self) -> usize {
        self.entries.len()
    }

    /// A name, by its place.
    pub(super) fn name(&self, index: usize) -> FileName {
        let name = self.entries[self.starts[index] as usize].name(&self.pieces);
        FileName::from_bytes(name).expect("only file names were added")
    }

    /// The place of a name.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.starts.binary_search_by(|&start| self.entries[start as usize].name(&self.pieces).cmp(name)).ok()
    }

    /// The peers that list a name, by their places on the peer list.
    pub(super) fn holders(&self, index: usize) -> impl Iterator<Item = usize> {
        let end = self.starts.get(index + 1).map_or(self.entries.len(), |&end| end as usize);
        self.entries[self.starts[index] as usize..end].iter().map(|entry| entry.peer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        FileName::from_bytes(text.as_bytes()).unwrap()
    }

    fn read(intake: &ListingCollector, peer: usize, names: impl IntoIterator<Item = String>) -> Result<(), CallError> {
        let mut reading = intake.begin(peer);
        names.into_iter().try_for_each(|text| reading.add(&name(&text)))?;
        reading.finish()
    }

    fn contents(index: &FileIndex) -> Vec<(String, Vec<usize>)> {
        let line = |name| (index.name(name).as_str().to_owned(), index.holders(name).collect());
        (0..index.len()).map(line).collect()
    }

    #[test]
    fn names_are_sorted_and_know_their_holders() {
        let intake = ListingCollector::new(4, 1 << 20);
        read(&intake, 2, ["b", "a", "b"].map(str::to_owned)).unwrap();
        read(&intake, 0, ["c", "b"].map(str::to_owned)).unwrap();
        read(&intake, 1, iter::empty()).unwrap();
        let index = intake.finish(|peer| panic!("{peer} was dropped"));
        let expected = [("a", vec![2]), ("b", vec![0, 2]), ("c", vec![0])];
        assert_eq!(contents(&index), expected.map(|(name, holders)| (name.to_owned(), holders)));
        assert_eq!(["a", "c", "d", ""].map(|name| index.find(name.as_bytes())), [Some(0), Some(2), None, None]);
    }

    #[test]
    fn a_listing_that_is_not_finished_is_forgotten() {
        let intake = ListingCollector::new(2, 1 << 20);
        let mut reading = intake.begin(0);
        (0..10_000).for_each(|number| reading.add(&name(&number.to_string())).unwrap());
        drop(reading);
        read(&intake, 1, ["a".to_owned()]).unwrap();
        let index = intake.finish(|peer| panic!("{peer} was dropped"));
        assert_eq!(contents(&index), [("a".to_owned(), vec![1])]);
    }

    #[test]
    fn the_largest_listing_gives_way_wherever_it_stands() {
        let many = |count: usize| (0..count).map(|number| format!("file{number:06}"));
        let intake = ListingCollector::new(4, 3_000_000);
        read(&intake, 0, many(10)).unwrap();
        read(&intake, 1, many(25_000)).unwrap();
        let mut hoarder = intake.begin(2);
        let told = many(1_000_000).position(|text| hoarder.add(&name(&text)).is_err());
        assert!(told.is_some_and(|names| (33_000..35_000).contains(&names)), "told after {told:?}");
        drop(hoarder);
        read(&intake, 3, many(29_000)).unwrap();
        let mut late = intake.begin(2);
        many(5_000).for_each(|text| late.add(&name(&text)).unwrap());
        late.finish().unwrap();
        let mut lost = Vec::new();
        let index = intake.finish(|peer| lost.push(peer));
        assert_eq!(lost, [3], "the largest of the whole ones");
        assert_eq!(index.len(), 25_000);
        assert_eq!(index.holders(9).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
