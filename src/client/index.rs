//! Who has what: the names that match, each with the peers that list it.
//!
//! Names and sources keep their numbers, and a listing may join at any time. A name's bytes stay in the block in which
//! they came. A source is a name in the listing of one peer; those of one listing lie side by side, sorted by name.

use std::{
    hash::{BuildHasher, RandomState},
    iter,
    num::NonZeroU32,
    ops::Range,
};

use crate::file_name::FileName;

use super::collector::{DETAILS_BYTES, Details, Listing};

/// The names, and who lists them.
pub(super) struct FileIndex {
    blocks: Vec<Vec<u8>>,
    listings: Vec<Joined>,
    names: Vec<Name>,
    sources: Vec<Source>,
    /// A hash table of the names: each is in the first slot that was free, from the one of its hash on.
    table: Vec<Option<Number>>,
    hasher: RandomState,
}

/// A listing that has joined.
struct Joined {
    peer: usize,
    sources: Range<usize>,
    /// By source: its size in bytes, and when it was last changed; empty where the peer told none.
    sizes: Vec<u64>,
    times: Vec<u32>,
}

/// Where the length and the bytes of a name are.
#[derive(Clone, Copy)]
struct Location {
    block: u16,
    offset: u16,
}

struct Name {
    location: Location,
    /// The source that came last; it leads to the others.
    source: Option<Number>,
}

struct Source {
    name: Number,
    /// The source of the same name that came before.
    previous: Option<Number>,
}

/// A number in four bytes, even where there may be none.
#[derive(Clone, Copy)]
struct Number(NonZeroU32);

impl Number {
    fn new(number: usize) -> Self {
        let number = u32::try_from(number).expect("memory holds fewer names than 2^32");
        Self(NonZeroU32::MIN.saturating_add(number))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl FileIndex {
    pub(super) fn new() -> Self {
        let table = vec![None; 1024];
        let hasher = RandomState::new();
        Self { blocks: Vec::new(), listings: Vec::new(), names: Vec::new(), sources: Vec::new(), table, hasher }
    }

    /// Adds the listing of a peer; the sources that it brings.
    pub(super) fn join(&mut self, peer: usize, listing: Listing) -> Range<usize> {
        self.names.reserve(listing.names);
        self.sources.reserve(listing.names);
        let first = self.sources.len();
        let is_index = listing.is_index;
        let detailed = if is_index { listing.names } else { 0 };
        let (mut sizes, mut times) = (Vec::with_capacity(detailed), Vec::with_capacity(detailed));
        for location in self.adopt(listing) {
            let name = self.intern(location);
            let source = Number::new(self.sources.len());
            let previous = self.names[name.index()].source.replace(source);
            self.sources.push(Source { name, previous });
            if is_index {
                let Details { size, modified } = self.details_at(location);
                sizes.push(size);
                times.push(modified);
            }
        }
        let sources = first..self.sources.len();
        self.listings.push(Joined { peer, sources: sources.clone(), sizes, times });
        sources
    }

    /// Takes over the blocks of a listing: where its names are, in the order of the names, each once.
    fn adopt(&mut self, listing: Listing) -> Vec<Location> {
        let details_bytes = if listing.is_index { DETAILS_BYTES } else { 0 };
        let mut locations = Vec::with_capacity(listing.names);
        for bytes in listing.blocks {
            let block = u16::try_from(self.blocks.len()).expect("memory holds fewer blocks than 2^16");
            let mut next = 0;
            while let Some(length) = bytes.get(next) {
                let offset = u16::try_from(next).expect("a block is shorter than 2^16");
                locations.push(Location { block, offset });
                next += 1 + usize::from(*length) + details_bytes;
            }
            self.blocks.push(bytes);
        }
        // Quick where listings are sorted already, as ours are.
        locations.sort_unstable_by_key(|location| self.bytes_at(*location));
        locations.dedup_by_key(|location| self.bytes_at(*location));
        locations
    }

    /// The number of a name, which is new or known.
    fn intern(&mut self, location: Location) -> Number {
        if 4 * self.names.len() >= 3 * self.table.len() {
            self.grow_table();
        }
        let slot = self.slot(self.bytes_at(location));
        *self.table[slot].get_or_insert_with(|| {
            self.names.push(Name { location, source: None });
            Number::new(self.names.len() - 1)
        })
    }

    fn grow_table(&mut self) {
        self.table = vec![None; 2 * self.table.len()];
        for (number, name) in self.names.iter().enumerate() {
            let slot = self.slot(self.bytes_at(name.location));
            self.table[slot] = Some(Number::new(number));
        }
    }

    /// The slot in which a name is or would be.
    fn slot(&self, bytes: &[u8]) -> usize {
        let slots = self.table.len();
        let hash = self.hasher.hash_one(bytes) % slots as u64;
        let mut slot = usize::try_from(hash).expect("it is less than a length");
        while self.table[slot].is_some_and(|found| self.bytes(found.index()) != bytes) {
            slot = (slot + 1) % slots;
        }
        slot
    }

    fn bytes_at(&self, location: Location) -> &[u8] {
        let from_length = &self.blocks[usize::from(location.block)][usize::from(location.offset)..];
        &from_length[1..=usize::from(from_length[0])]
    }

    /// The details that stand after a name of an index.
    fn details_at(&self, Location { block, offset }: Location) -> Details {
        let from_length = &self.blocks[usize::from(block)][usize::from(offset)..];
        let details = from_length[1 + usize::from(from_length[0])..].first_chunk();
        Details::from_bytes(details.expect("an index has details after each name"))
    }

    fn bytes(&self, name: usize) -> &[u8] {
        self.bytes_at(self.names[name].location)
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of this number.
    pub(super) fn name(&self, name: usize) -> FileName {
        FileName::from_bytes(self.bytes(name)).expect("only file names were collected")
    }

    /// The numbers of all names, in the order of the names.
    pub(super) fn sorted(&self) -> Vec<usize> {
        let mut names: Vec<usize> = (0..self.len()).collect();
        names.sort_unstable_by_key(|&name| self.bytes(name));
        names
    }

    /// The sources of a name, the last first.
    pub(super) fn sources(&self, name: usize) -> impl Iterator<Item = usize> {
        let last = self.names[name].source;
        iter::successors(last, |source| self.sources[source.index()].previous).map(Number::index)
    }

    /// The name of a source.
    pub(super) fn name_of(&self, source: usize) -> usize {
        self.sources[source].name.index()
    }

    /// The peer of a source.
    pub(super) fn peer_of(&self, source: usize) -> usize {
        self.listing_of(source).peer
    }

    /// The size in bytes that a source told.
    pub(super) fn size_of(&self, source: usize) -> Option<u64> {
        Some(self.details_of(source)?.size)
    }

    /// What a source told beside the name.
    pub(super) fn details_of(&self, source: usize) -> Option<Details> {
        let listing = self.listing_of(source);
        let number = source - listing.sources.start;
        Some(Details { size: *listing.sizes.get(number)?, modified: *listing.times.get(number)? })
    }

    /// The size of a name: what the first peer tells, in the order of the peer list, of those that tell one.
    pub(super) fn size(&self, name: usize) -> Option<u64> {
        let sizes = self.sources(name).filter_map(|source| Some((self.peer_of(source), self.size_of(source)?)));
        sizes.min().map(|(_, size)| size)
    }

    fn listing_of(&self, source: usize) -> &Joined {
        &self.listings[self.listings.partition_point(|listing| listing.sources.end <= source)]
    }
}

#[cfg(test)]
mod tests {
    use super::{super::collector::listing, *};

    /// An index of these listings, by peer.
    fn index(listings: &[(usize, &[&str])]) -> FileIndex {
        let mut index = FileIndex::new();
        for (peer, names) in listings {
            index.join(*peer, listing(names));
        }
        index
    }

    fn contents(index: &FileIndex) -> Vec<(String, Vec<usize>)> {
        let entry = |name: usize| {
            let mut peers: Vec<usize> = index.sources(name).map(|source| index.peer_of(source)).collect();
            peers.sort_unstable();
            (index.name(name).as_str().to_owned(), peers)
        };
        index.sorted().into_iter().map(entry).collect()
    }

    #[test]
    fn names_are_sorted_and_know_their_peers() {
        let index = index(&[(2, &["b", "a", "b"]), (1, &[]), (0, &["c", "b"])]);
        let expected = [("a", vec![2]), ("b", vec![0, 2]), ("c", vec![0])];
        assert_eq!(contents(&index), expected.map(|(name, peers)| (name.to_owned(), peers)));
    }

    #[test]
    fn a_listing_that_joins_later_changes_no_number() {
        let all: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut index = index(&[(0, &all[..10])]);
        let before: Vec<FileName> = (0..index.len()).map(|name| index.name(name)).collect();
        index.join(1, listing(&all));
        let after: Vec<FileName> = (0..before.len()).map(|name| index.name(name)).collect();
        assert_eq!(before, after);
        assert_eq!(index.len(), all.len());
        assert!(
            contents(&index).iter().all(|(name, peers)| peers.len() == 1 + usize::from(all[..10].contains(&&**name)))
        );
    }
}
