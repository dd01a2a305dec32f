//! The long wire that the benchmark measures through: bytes arrive whole and in order, no sooner than they may.

use std::time::{Duration, Instant};

use crate::{
    harness::{Connection, Dir, PASSWORD, SilentPort, call_for, serve, string},
    support::{Relay, Wire},
};

/// Fetches a file of this many bytes through a wire; returns how long the connection and the call took.
fn fetch_through(wire: Wire, bytes: usize) -> Duration {
    let content: Vec<u8> = (0..=255).cycle().take(bytes).collect();
    let shared = Dir::with([("file", &*content)]);
    let server = serve(&shared).start();
    let mut relay = Relay::bind();
    relay.start(server.port(), wire);
    let begun = Instant::now();
    let mut connection = Connection::open(&relay.url());
    connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("file")));
    assert!(connection.response().answer().content() == content, "another content");
    begun.elapsed()
}

#[test]
fn a_call_over_a_wire_takes_a_round_trip_for_the_handshake_and_one_for_itself() {
    let wire = Wire { delay: Duration::from_millis(50), ..Wire::default() };
    assert!(fetch_through(wire, 1000) >= Duration::from_millis(200));
}

#[test]
fn no_more_bytes_come_over_a_wire_than_its_rate_allows() {
    let wire = Wire { rate: Some(1 << 20), ..Wire::default() };
    assert!(fetch_through(wire, 300_000) >= Duration::from_millis(350), "400,000 bytes of base64 at 1 MiB/s");
}

#[test]
fn the_end_of_a_connection_passes_a_wire_both_ways() {
    let (mut relay, dead) = (Relay::bind(), SilentPort::reserve());
    relay.start(dead.port, Wire::default());
    assert_eq!(Connection::open(&relay.url()).rest(), b"", "nobody listens there");
    let dir = Dir::new();
    let server = serve(&dir).options(["--timeout", "1"]).start();
    let mut relay = Relay::bind();
    relay.start(server.port(), Wire::default());
    assert_eq!(Connection::open(&relay.url()).rest(), b"", "the server ends a connection that says nothing");
}
