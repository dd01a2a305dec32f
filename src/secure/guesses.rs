//! How often an address may guess the password: ten times at once, then once in two seconds.
//!
//! Invariant: the table is bounded. When it is full, addresses that are new to it share one entry.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// How long a guess is remembered.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many guesses may be remembered at once for one address.
const BURST: u32 = 10;

/// The most entries.
const MAX_ENTRIES: usize = 4096;

/// Who shares an entry: an address of IPv4, the /64 and the /48 of one of IPv6, or all for whom there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr, u8),
    Others,
}

/// Until when the guesses of each are remembered.
#[derive(Default)]
pub(super) struct Guesses(Mutex<HashMap<Key, Instant>>);

/// A guess that was charged.
pub(super) struct Charge(Vec<Key>, Instant);

impl Guesses {
    /// Whether an address may guess now.
    pub(super) fn is_allowed(&self, address: IpAddr, now: Instant) -> bool {
        let table = lock(&self.0);
        keys(address).into_iter().all(|key| is_allowed(&table, found(&table, key), now))
    }

    /// Charges a guess, or nothing if the address may not guess now.
    pub(super) fn charge(&self, address: IpAddr, now: Instant) -> Option<Charge> {
        let mut table = lock(&self.0);
        if table.len() >= MAX_ENTRIES {
            table.retain(|_, until| *until > now);
        }
        let mut keys: Vec<Key> = keys(address).into_iter().map(|key| found(&table, key)).collect();
        keys.dedup();
        if !keys.iter().all(|key| is_allowed(&table, *key, now)) {
            return None;
        }
        for key in &keys {
            let until = table.entry(*key).or_insert(now);
            *until = (*until).max(now) + INTERVAL;
        }
        Some(Charge(keys, now))
    }

    /// Gives a guess back that was none.
    pub(super) fn refund(&self, charge: Charge, now: Instant) {
        let Charge(keys, charged) = charge;
        if now >= charged + INTERVAL {
            // It may be forgotten already; giving it back then would be one guess too many.
            return;
        }
        let mut table = lock(&self.0);
        for key in keys {
            if let Some(until) = table.get_mut(&key) {
                *until = until.checked_sub(INTERVAL).unwrap_or(*until);
            }
        }
    }
}

fn is_allowed(table: &HashMap<Key, Instant>, key: Key, now: Instant) -> bool {
    table.get(&key).is_none_or(|until| *until + INTERVAL <= now + INTERVAL * BURST)
}

/// The entry of a key, which is that of all others where the table has no room for a new one.
fn found(table: &HashMap<Key, Instant>, key: Key) -> Key {
    if table.contains_key(&key) || table.len() < MAX_ENTRIES { key } else { Key::Others }
}

fn keys(address: IpAddr) -> Vec<Key> {
    match address.to_canonical() {
        IpAddr::V4(_) => vec![Key::Address(address.to_canonical(), 32)],
        IpAddr::V6(address) => [64, 48]
            .map(|bits| {
                let network = Ipv6Addr::from_bits(address.to_bits() >> (128 - bits) << (128 - bits));
                Key::Address(network.into(), u8::try_from(bits).expect("a length of bits is small"))
            })
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these guesses are charged.
    fn charged(guesses: &Guesses, address: &str, count: usize, now: Instant) -> usize {
        let address = address.parse().unwrap();
        (0..count).filter(|_| guesses.charge(address, now).is_some()).count()
    }

    #[test]
    fn ten_at_once_and_then_one_in_two_seconds() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        assert_eq!(charged(&guesses, "192.0.2.1", 100, now), 10);
        assert_eq!(charged(&guesses, "192.0.2.2", 1, now), 1);
        assert!(!guesses.is_allowed("192.0.2.1".parse().unwrap(), now));
        assert_eq!(charged(&guesses, "::ffff:192.0.2.1", 9, now + INTERVAL * 3), 3);
        assert_eq!(charged(&guesses, "192.0.2.1", 100, now + INTERVAL * 100), 10);
    }

    #[test]
    fn a_guess_that_was_none_is_given_back() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..100 {
            let charge = guesses.charge(address, now).unwrap();
            guesses.refund(charge, now);
        }
        assert_eq!(charged(&guesses, "192.0.2.1", 100, now), 10);
    }

    #[test]
    fn a_network_of_ipv6_guesses_as_one() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        assert_eq!(charged(&guesses, "2001:db8:1:1::1", 6, now), 6);
        assert_eq!(charged(&guesses, "2001:db8:1:1:2::1", 6, now), 4, "the same /64");
        assert_eq!(charged(&guesses, "2001:db8:1:2::1", 6, now), 0, "the same /48");
        assert_eq!(charged(&guesses, "2001:db8:2:1::1", 6, now), 6);
    }

    #[test]
    fn newcomers_share_an_entry_when_the_table_is_full() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..MAX_ENTRIES {
            let address =
                IpAddr::from([10, 0, u8::try_from(number / 256).unwrap(), u8::try_from(number % 256).unwrap()]);
            assert!(guesses.charge(address, now).is_some());
        }
        let total: usize = (0..200).map(|number| charged(&guesses, &format!("192.0.2.{number}"), 1, now)).sum();
        assert_eq!((total, lock(&guesses.0).len()), (10, MAX_ENTRIES + 1));
        assert_eq!(charged(&guesses, "10.0.0.1", 10, now), 9, "who was there has its own");
        assert_eq!(charged(&guesses, "198.51.100.1", 20, now + INTERVAL * 20), 10, "what is over is forgotten");
    }
}
