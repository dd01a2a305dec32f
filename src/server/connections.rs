//! The table of connections: who is connected, and who must make room for a newcomer.
//!
//! There are never more connections than slots, because each has descriptors. When all slots are taken a newcomer costs
//! one connection: of the address with the most connections the one that has been silent for longest, and never one
//! that has just sent something. A request that has been arriving for long counts as silent.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    activity::{MAX_ARRIVAL, Phase},
    connection::Connection,
};
use crate::lock::lock;

/// How long a connection must have been silent before it can be evicted. Honest callers need it between their
/// connection, head and body: with 10 ms, one on a busy machine was evicted.
const MIN_SILENCE: Duration = Duration::from_millis(50);

/// How long a newcomer waits for a slot of the address with the most connections before it may have any.
const PREFERENCE: Duration = Duration::from_millis(250);

/// How often a full table is searched for a connection that has become silent.
const EVICTION_INTERVAL: Duration = Duration::from_millis(2);

/// The connections of one server.
pub(super) struct Connections {
    slots: usize,
    /// The time limit that each connection is given.
    timeout: Duration,
    table: Mutex<Table>,
    changed: Condvar,
    full: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// A connection stays until its socket is closed.
    open: Vec<Arc<Connection>>,
    /// How many newcomers wait for a slot.
    waiting: usize,
    closed: bool,
}

/// The slot of a connection. It is free again when this is dropped, however the thread of the connection ends.
pub(super) struct ConnectionSlot {
    connection: Option<Arc<Connection>>,
    connections: Arc<Connections>,
}

impl ConnectionSlot {
    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a slot has its connection until it is dropped")
    }

    /// Whether all slots are taken: then every answer ends its connection, so that newcomers get a slot.
    pub(super) fn is_table_full(&self) -> bool {
        self.connections.full.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.connections.remove(connection);
        }
    }
}

impl Connections {
    pub(super) fn new(slots: usize, timeout: Duration) -> Self {
        Self { slots, timeout, table: Mutex::default(), changed: Condvar::new(), full: AtomicBool::new(false) }
    }

    /// Gives a new connection a slot, evicting another if need be. Returns nothing when the server ends.
    pub(super) fn insert(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) -> Option<ConnectionSlot> {
        let began = Instant::now();
        let mut table = lock(&self.table);
        table.waiting += 1;
        while table.open.len() >= self.slots && !table.closed {
            let ending = table.open.iter().filter(|connection| connection.is_aborted()).count();
            if ending < table.waiting {
                evict_one(&table.open, began.elapsed() > PREFERENCE);
            }
            table = self.changed.wait_timeout(table, EVICTION_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
        table.waiting -= 1;
        if table.closed {
            return None;
        }
        let connection = Arc::new(Connection::new(stream, address, self.timeout));
        table.open.push(Arc::clone(&connection));
        self.full.store(table.open.len() >= self.slots, Ordering::Relaxed);
        Some(ConnectionSlot { connection: Some(connection), connections: Arc::clone(self) })
    }

    /// Closes a connection's socket and frees its slot.
    fn remove(&self, connection: Arc<Connection>) {
        let mut table = lock(&self.table);
        table.open.retain(|open| !Arc::ptr_eq(open, &connection));
        // The last reference: the descriptor is free before the slot is.
        drop(connection);
        self.full.store(table.open.len() >= self.slots, Ordering::Relaxed);
        drop(table);
        self.changed.notify_all();
    }

    /// Whether no connections are taken any more.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.table).closed
    }

    /// Takes no connections any more and aborts all.
    pub(super) fn close(&self) {
        let mut table = lock(&self.table);
        table.closed = true;
        for connection in &table.open {
            connection.abort(true);
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Waits until all connections have ended, but no longer than `time`. Returns whether they have.
    pub(super) fn wait_until_empty(&self, time: Duration) -> bool {
        let has_open = |table: &mut Table| !table.open.is_empty();
        let waited = self.changed.wait_timeout_while(lock(&self.table), time, has_open);
        let (table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        table.open.is_empty()
    }
}

/// A connection that may be evicted.
struct Candidate<'a> {
    connection: &'a Connection,
    phase: Phase,
    silent_for: Duration,
    /// How many connections its address has.
    neighbours: usize,
}

/// Aborts the connection with the least claim to its slot, if any has been silent for long enough: of an address with
/// the most connections, unless `any_address` will do. Downloads that stand still go after all others of their address.
fn evict_one(open: &[Arc<Connection>], any_address: bool) {
    let now = Instant::now();
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for connection in open {
        *counts.entry(connection.network()).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let mut candidates: Vec<_> = open
        .iter()
        .filter(|connection| !connection.is_aborted())
        .filter_map(|connection| {
            let (phase, silent_for) = connection.silent_for(now)?;
            Some(Candidate { connection, phase, silent_for, neighbours: counts[&connection.network()] })
        })
        .filter(|candidate| candidate.silent_for >= MIN_SILENCE && (any_address || candidate.neighbours == most))
        .collect();
    candidates.sort_unstable_by_key(|candidate| {
        Reverse((candidate.neighbours, candidate.phase != Phase::Writing, candidate.silent_for))
    });
    let is_writing = |candidate: &Candidate<'_>| candidate.phase == Phase::Writing;
    // What arrives for long has always just spoken.
    let drips = |candidate: &Candidate<'_>| {
        matches!(candidate.phase, Phase::Reading | Phase::Lingering) && candidate.silent_for > MAX_ARRIVAL
    };
    let has_spoken = |candidate: &Candidate<'_>| candidate.connection.has_unread_bytes() && !drips(candidate);
    let evicted = candidates.iter().find(|candidate| is_writing(candidate) || !has_spoken(candidate));
    if let Some(candidate) = evicted {
        candidate.connection.abort(is_writing(candidate));
    }
}
