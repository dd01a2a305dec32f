//! Drives the real binary from outside: its command line, its sockets, the files it leaves. What belongs where:
//!
//! - `cli`: how words become passwords, patterns, options and usage errors; exit statuses that need no network
//! - `wire`: HTTP and XML-RPC, byte for byte, against a server; the exchanges recorded from the original
//! - `files`: what a server shares, what it never does, and how content is spelled
//! - `roundtrip`: every kind of content and name, between all pairs of peers that can meet
//! - `network`: servers among themselves: joining, bad peers, starting and stopping
//! - `gossip`: how a network finds itself and stays whole: start order, restarts, many servers, many dead peers
//! - `liars`: peers that answer a client with whatever harms it most
//! - `faults`: machines that fail: kills, full disks, missing permission, files that change while they are sent
//! - `stalls`: peers that stop or stay mute, at the lengths of a limit at which the system rounds
//! - `strangers`: whatever is done to a server without the password, it goes on serving
//! - `terminal`: bars, the prompt for the password and ctrl-c, at a pseudo-terminal whose screen is modelled
//! - `texts`: help, messages and logs, word for word
//! - `client`: what a client makes of good and bad answers: exit status, files, words
//!
//! Every test has its own directories and ports, so all of them run at once. Heavy variants run when `TINYP2P_FULL`
//! is 1. A deadline is ten times what is promised, so that a slow machine fails no test.
#![allow(clippy::unwrap_used)] // In a test, a panic where it stands is the report.

mod cli;
mod client;
mod faults;
mod files;
mod gossip;
mod harness;
mod liars;
mod network;
mod roundtrip;
mod stalls;
mod strangers;
mod terminal;
mod texts;
mod wire;
