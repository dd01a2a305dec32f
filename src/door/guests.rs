//! Who is inside, and who must go when there is no place for a newcomer.
//!
//! There are never more guests than places, because each has descriptors. A newcomer costs one guest: of the address
//! with the most guests the one that has been silent for longest, and never one that has just spoken.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{guest::Guest, lock, pulse::Phase};

/// How long a guest must have been silent before a newcomer may have its place. Honest callers need it between their
/// connection, head and body: with 10 ms, one on a busy machine was turned out.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a newcomer waits for a place of the address with the most guests before it may have any.
const PREFERENCE: Duration = Duration::from_millis(250);

/// How often a full house looks for a guest that has become silent.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The guests of one door.
pub(super) struct Guests {
    most: usize,
    table: Mutex<Table>,
    changed: Condvar,
    crowded: AtomicBool,
}

#[derive(Default)]
struct Table {
    present: HashMap<u64, Arc<Guest>>,
    /// How many places are taken: a guest's is free once its socket is closed.
    taken: usize,
    /// How many connections wait for a place.
    waiting: usize,
    last_id: u64,
    closed: bool,
}

impl Guests {
    pub(super) fn new(most: usize) -> Self {
        Self { most, table: Mutex::default(), changed: Condvar::new(), crowded: AtomicBool::new(false) }
    }

    /// Whether all places are taken: then every answer ends its connection, so that newcomers get their turn.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Gives a newcomer a place, turning out another guest if need be; nothing when the door closes.
    pub(super) fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<Arc<Guest>> {
        let mut table = lock(&self.table);
        table.waiting += 1;
        let came = Instant::now();
        while table.taken >= self.most && !table.closed {
            let leaving = table.present.values().filter(|guest| guest.is_cut()).count();
            if leaving < table.waiting {
                turn_one_out(&table.present, came.elapsed() > PREFERENCE);
            }
            table = self.wait(table, LOOK_AGAIN);
        }
        table.waiting -= 1;
        if table.closed {
            return None;
        }
        table.last_id += 1;
        table.taken += 1;
        let guest = Arc::new(Guest::new(table.last_id, stream, address));
        table.present.insert(guest.id, Arc::clone(&guest));
        self.crowded.store(table.taken >= self.most, Ordering::Relaxed);
        drop(table);
        self.changed.notify_all();
        Some(guest)
    }

    /// Closes a guest's socket and frees its place.
    pub(super) fn dismiss(&self, guest: Arc<Guest>) {
        lock(&self.table).present.remove(&guest.id);
        drop(guest);
        let mut table = lock(&self.table);
        table.taken -= 1;
        self.crowded.store(table.taken >= self.most, Ordering::Relaxed);
        drop(table);
        self.changed.notify_all();
    }

    /// Cuts everyone who has been silent for too long. Says whether anyone is here.
    pub(super) fn check(&self, now: Instant, limit: Duration) -> bool {
        let table = lock(&self.table);
        for guest in table.present.values() {
            guest.check(now, limit);
        }
        !table.present.is_empty()
    }

    /// Waits until someone comes, or the door closes.
    pub(super) fn wait_for_anyone(&self) {
        let table = lock(&self.table);
        let nobody = |table: &mut Table| table.present.is_empty() && !table.closed;
        drop(self.changed.wait_while(table, nobody).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for `time`, or until the door closes; says whether it is still open.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let table = lock(&self.table);
        let open = |table: &mut Table| !table.closed;
        let (table, _) = self.changed.wait_timeout_while(table, time, open).unwrap_or_else(PoisonError::into_inner);
        !table.closed
    }

    /// Admits nobody any more and cuts everyone.
    pub(super) fn close(&self) {
        let mut table = lock(&self.table);
        table.closed = true;
        for guest in table.present.values() {
            guest.cut(true);
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Waits until everyone has left, but no longer than `time`; says whether they have.
    pub(super) fn wait_until_empty(&self, time: Duration) -> bool {
        let table = lock(&self.table);
        let taken = |table: &mut Table| table.taken > 0;
        let (table, _) = self.changed.wait_timeout_while(table, time, taken).unwrap_or_else(PoisonError::into_inner);
        table.taken == 0
    }

    fn wait<'a>(&self, table: MutexGuard<'a, Table>, time: Duration) -> MutexGuard<'a, Table> {
        self.changed.wait_timeout(table, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Cuts the one who has the least claim to a place, if anyone has been silent for long enough: of an address with the
/// most guests, unless it may be `anyone`. Downloads that stand still go after everyone else of their address.
fn turn_one_out(present: &HashMap<u64, Arc<Guest>>, anyone: bool) {
    let now = Instant::now();
    let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
    for guest in present.values() {
        *crowds.entry(guest.origin()).or_default() += 1;
    }
    let largest = crowds.values().copied().max().unwrap_or_default();
    let silent = present.values().filter(|guest| !guest.is_cut()).filter_map(|guest| {
        let (phase, silence) = guest.silence(now)?;
        let crowd = crowds[&guest.origin()];
        let claim = (crowd, phase != Phase::Writing, silence);
        (silence >= PATIENCE && (anyone || crowd == largest)).then_some((claim, phase, guest))
    });
    let mut silent: Vec<_> = silent.collect();
    silent.sort_unstable_by_key(|&(claim, ..)| Reverse(claim));
    for (_, phase, guest) in silent {
        let writes = phase == Phase::Writing;
        if writes || !guest.has_unread_bytes() {
            return guest.cut(writes);
        }
    }
}
