//! Drives the real binary from outside: its command line, its sockets, the files it leaves. What belongs where:
//!
//! - `cli`: how words become passwords, patterns, options and usage errors; exit statuses that need no network
//! - `wire`: HTTP and XML-RPC, byte for byte, against a server; the exchanges recorded from the original
//! - `files`: what a server shares, what it never does, and how content is spelled
//! - `rate`: the limits for what is sent and received
//! - `relay`: the long wire of the benchmark delays and limits as it says
//! - `packs`: what a client makes of good and bad indices and packs, and what each bad one costs
//! - `parts`: parts of files and their digests, as a server gives them
//! - `private`: networks that are encrypted by the password: what is seen, refused, and never retried in clear
//! - `private_wire`: private connections made by hand: the protocol, somebody in between, hostile callers
//! - `large`: one large file from everybody who has it, and on from where it was
//! - `roundtrip`: every kind of content and name, between all pairs of peers that can meet
//! - `network`: servers among themselves: joining, bad peers, starting and stopping
//! - `gossip`: how a network finds itself and stays whole: start order, restarts, many servers, many dead peers
//! - `liars`: peers that answer a client with whatever harms it most
//! - `faults`: machines that fail: kills, full disks, missing permission, files that change while they are sent
//! - `stalls`: peers that stop or stay mute, at the lengths of a limit at which the system rounds
//! - `strangers`: whatever is done to a server without the password, it goes on serving
//! - `layers`: reads the source: imports go down the layers, each foreign crate is known to one room
//! - `terminal`: bars, the prompt for the password and ctrl-c, at a pseudo-terminal whose screen is modelled
//! - `texts`: help, messages and logs, word for word
//! - `mirror`: what a server with `--mirror` fetches, and what it never does
//! - `update`: files that are here in another state than elsewhere, and what `--update` makes of them
//! - `client`: what a client makes of good and bad answers: exit status, files, words
//!
//! Every test has its own directories and ports, so all of them run at once. Heavy variants run when `TINYP2P_FULL`
//! is 1. A deadline is ten times what is promised, so that a slow machine fails no test.
//!
//! The promises of the README, and the tests that keep them:
//!
//! - A file that has its name is whole, and a name is printed when file and name are on the disk:
//!   `a_client_killed_at_any_moment_leaves_nothing_that_is_not_whole`,
//!   `an_answer_to_a_fetch_that_is_cut_at_any_byte_leaves_no_file`,
//!   `content_is_synced_before_it_gets_its_name_and_the_name_before_it_is_printed`
//! - No existing file is replaced without `--update`, followed or waited for:
//!   `nothing_that_stands_under_a_name_is_touched_or_followed`,
//!   `a_kill_at_any_moment_of_an_update_leaves_the_old_or_the_new_whole`
//! - Partial files are never shared, and the next run goes on with them or removes them:
//!   `what_a_killed_client_left_is_reclaimed_by_the_next`, `a_download_that_was_ended_goes_on_where_it_was`,
//!   `a_kept_file_is_removed_when_it_is_old_or_its_file_is_there`
//! - What differs under one name never mixes: `what_differs_under_one_name_never_mixes`
//! - A peer that fails costs only the files that nobody else has: `a_server_that_dies_costs_the_file_or_nothing`,
//!   `connections_that_break_when_they_are_used_again_are_opened_again`
//! - No peer stalls a client for longer than the timeout, and a list is whole within four:
//!   `no_file_keeps_a_client_longer_than_the_silence_limit` and its two siblings
//! - A full disk costs only the files that do not fit: `a_full_disk_costs_what_has_no_room_and_nothing_else`
//! - Ctrl-c ends a client at any moment: `ctrl_c_ends_a_client_in_every_phase`
//! - A client takes below 100 MiB: `a_gang_of_liars_does_not_fill_memory`, `a_million_names_fit_into_memory`
//! - No name from a peer leaves the directory or steers a terminal:
//!   `names_that_could_do_harm_are_reported_and_skipped`, `what_is_told_of_others_is_escaped`
//! - A file that changes while it is sent arrives as it was, or not at all:
//!   `a_file_that_changes_while_it_is_sent_arrives_whole_as_it_was_or_is_cut`
//! - Callers without the password keep nobody waiting, and fill neither memory nor disk nor log:
//!   `connections_that_say_nothing_keep_nobody_waiting`, `downloads_that_nobody_reads_fill_no_memory_and_end`,
//!   `a_server_with_fewer_descriptors_than_connections_serves_on`,
//!   `wrong_proofs_without_end_slow_nobody_and_fill_no_log`
//! - In a private network a listener learns nothing, and guesses are few:
//!   `a_listener_learns_nothing_and_what_it_repeats_opens_nothing`,
//!   `one_in_between_who_ends_tls_is_refused_on_both_sides`,
//!   `guesses_that_end_with_the_servers_answer_are_as_few_as_others`
//! - A mirror replaces nothing, takes nothing that is not whole, and leaves room:
//!   `nothing_that_has_a_name_is_touched`, `what_is_not_what_it_was_listed_as_is_not_taken`,
//!   `a_twentieth_of_the_disk_stays_free`, `a_twentieth_of_the_inodes_stays_free`
#![allow(clippy::unwrap_used)] // In a test, a panic where it stands is the report.

mod cli;
mod client;
mod faults;
mod files;
mod gossip;
mod harness;
mod large;
mod layers;
mod liars;
mod mirror;
mod network;
mod packs;
mod parts;
mod private;
mod private_wire;
mod rate;
mod relay;
mod roundtrip;
mod stalls;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod texts;
mod update;
mod wire;
