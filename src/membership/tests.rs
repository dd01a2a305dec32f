//! What a server knows of its network, and whom it calls when.

mod dead;
mod promises;

use std::collections::HashSet;

use super::{failures::FAILURE_INTERVAL, schedule::*, *};

const OWN: &str = "http://own:1";
const NONE: &[&str] = &[];

fn url(text: &str) -> PeerUrl {
    text.parse().unwrap()
}

/// `http://peer:1` and so on.
fn urls(ports: std::ops::RangeInclusive<usize>) -> Vec<PeerUrl> {
    ports.map(|port| url(&format!("http://peer:{port}"))).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn server(seeds: &[&str], announce: u64) -> Membership {
    let seeds = seeds.iter().map(|text| url(text)).collect();
    Membership::new(url(OWN), seeds, Some(seconds(announce)), Duration::ZERO, 7)
}

fn live_peers(members: &Membership) -> Vec<&str> {
    members.live_peers().map(PeerUrl::as_str).collect()
}

fn peers_to_send(members: &Membership) -> Vec<&str> {
    members.peers_to_send().map(PeerUrl::as_str).collect()
}

fn due(members: &mut Membership, now: Duration) -> Vec<String> {
    let mut due: Vec<String> = members.due(now).iter().map(ToString::to_string).collect();
    due.sort();
    due
}

/// Runs a server on its own until `end`; `answer` gives each peer's list, or nothing for one that does not answer.
/// Returns all calls.
fn run<'a>(
    members: &mut Membership,
    end: Duration,
    answer: impl Fn(&PeerUrl, Duration) -> Option<Vec<&'a str>>,
) -> Vec<(Duration, PeerUrl)> {
    let mut calls = Vec::new();
    let mut now = Duration::ZERO;
    while let Some(next) = members.next_due()
        && next <= end
    {
        now = now.max(next);
        let due = members.due(now);
        for peer in due {
            calls.push((now, peer.clone()));
            match answer(&peer, now) {
                Some(list) => _ = members.on_response(&peer, &list, now),
                None => members.on_failure(&peer, now),
            }
        }
    }
    calls
}

/// The times of the calls to one peer.
fn calls_to(calls: &[(Duration, PeerUrl)], peer: &str) -> Vec<f64> {
    calls.iter().filter(|(_, called)| called.as_str() == peer).map(|(at, _)| at.as_secs_f64()).collect()
}

/// The same, as the pauses between them.
fn pauses(calls: &[(Duration, PeerUrl)], peer: &str) -> Vec<f64> {
    calls_to(calls, peer).windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// A server whose peer `http://dead:1` is dead since a few minutes, and whose `http://a:1` lives.
fn with_a_dead_peer() -> (Membership, Duration) {
    let mut members = server(&["http://a:1"], 0);
    run(&mut members, Duration::ZERO, |_, _| Some(vec!["http://dead:1"]));
    members.period = Some(seconds(60));
    members.next_period = Some(seconds(60));
    members.schedule.plan(2, seconds(1));
    let end = seconds(240);
    run(&mut members, end, |peer, _| (peer.as_str() == "http://a:1").then(Vec::new));
    assert_eq!(live_peers(&members), [OWN, "http://a:1"]);
    (members, end)
}

#[test]
fn the_list_begins_with_ourselves_and_keeps_the_order_of_learning() {
    let mut members = server(&["http://b:1", "http://a:1", "http://b:1", OWN], 60);
    assert_eq!(live_peers(&members), [OWN, "http://b:1", "http://a:1"]);
    members.on_request(&["http://d:1", "http://a:1", "http://c:1"], Duration::ZERO);
    assert_eq!(live_peers(&members), [OWN, "http://b:1", "http://a:1", "http://d:1", "http://c:1"]);
    assert_eq!(peers_to_send(&members), live_peers(&members));
}

#[test]
fn urls_of_a_list_are_new_known_or_ignored() {
    let long = format!("http://{}:1", "x".repeat(246));
    let too_long = format!("http://{}:1", "x".repeat(247));
    for (urls, new, ignored) in [
        (vec![], vec![], 0),
        (vec!["http://a:1"], vec!["http://a:1"], 0),
        (vec!["http://a:1", "http://a:1", "http://a:1/"], vec!["http://a:1"], 0),
        (vec![OWN, "http://own:1/", "http://known:1"], vec![], 0),
        (vec!["", "nonsense", "https://a:1", "http://u@a:1", "http://a:1/p", "http://a:1?q"], vec![], 6),
        (vec![&long, &too_long], vec![&*long], 1),
    ] {
        let mut members = server(&["http://known:1"], 60);
        let outcome = members.on_request(&urls, Duration::ZERO);
        assert_eq!(outcome.new.iter().map(PeerUrl::as_str).collect::<Vec<_>>(), new, "{urls:?}");
        assert_eq!(outcome.ignored, ignored, "{urls:?}");
    }
}

#[test]
fn a_push_an_answer_and_the_list_are_bounded() {
    let mut members = server(&["http://a:1"], 60);
    let outcome = members.on_request(&urls(1..=2000), Duration::ZERO);
    assert_eq!((outcome.new.len(), outcome.ignored), (MAX_SENT_PEERS, 2000 - MAX_SENT_PEERS));
    let outcome = members.on_response(&url("http://a:1"), &urls(1001..=6000), Duration::ZERO);
    assert_eq!(outcome.new.len(), MAX_PEERS - 2 - MAX_SENT_PEERS);
    let (taken, known) = (MAX_PEERS, 24);
    assert_eq!(outcome.ignored, 5000 - taken + (taken - known - outcome.new.len()));
    assert_eq!(members.live_peers().count(), MAX_PEERS);
    let pushed = peers_to_send(&members);
    assert_eq!((pushed.len(), pushed[0], pushed[MAX_SENT_PEERS - 1]), (MAX_SENT_PEERS, OWN, "http://peer:4094"));
    assert_eq!(pushed.iter().collect::<HashSet<_>>().len(), MAX_SENT_PEERS);
}

#[test]
fn on_a_full_list_the_dead_make_room() {
    let (mut members, now) = with_a_dead_peer();
    let many = urls(1..=MAX_PEERS);
    for part in many.chunks(MAX_SENT_PEERS) {
        members.on_request(part, now);
    }
    assert_eq!(members.live_peers().count(), MAX_PEERS);
    assert!(!members.index.contains_key("http://dead:1"));
    assert_eq!(members.on_request(&["http://late:1"], now), MergeOutcome { ignored: 1, ..MergeOutcome::default() });
    assert_eq!(members.index.len(), members.peers.len());
    assert!(members.index.iter().all(|(url, &place)| members.peers[place].url == *url));
}

#[test]
fn joining_calls_all_seeds_and_new_peers_side_by_side_until_none_is_left() {
    let mut members = server(&["http://a:1", "http://b:1", OWN], 3600);
    let now = Duration::ZERO;
    assert_eq!(due(&mut members, now), ["http://a:1", "http://b:1"]);
    assert_eq!(due(&mut members, now), NONE, "both are being asked");
    members.on_response(&url("http://a:1"), &["http://b:1", "http://c:1", OWN], now);
    assert_eq!(due(&mut members, now), ["http://c:1"]);
    members.on_request(&["http://d:1"], now);
    assert_eq!(due(&mut members, now), ["http://d:1"]);
    for peer in ["http://c:1", "http://d:1", "http://b:1"] {
        members.on_response(&url(peer), &[OWN], now);
    }
    members.on_request(&["http://e:1"], now);
    assert_eq!(due(&mut members, now), NONE, "joining is over");
}

#[test]
fn a_server_that_was_given_nobody_joins_when_somebody_calls() {
    let mut members = server(&[], 3600);
    assert_eq!(due(&mut members, Duration::ZERO), NONE);
    members.on_request(&["http://a:1", "http://b:1", OWN], seconds(9));
    assert_eq!(due(&mut members, seconds(9)), ["http://a:1", "http://b:1"]);
}

#[test]
fn few_calls_are_begun_at_once_and_hanging_ones_delay_nobody() {
    let mut members = server(&["http://a:1"], 0);
    members.on_request(&urls(1..=1000), Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut hanging = 0;
    while hanging < MAX_CALLS {
        let due = members.due(now);
        assert_eq!(due.len(), MAX_RECENT_CALLS, "at {now:?}");
        hanging += due.len();
        assert_eq!(members.due(now), []);
        if hanging < MAX_CALLS {
            assert_eq!(members.next_due(), Some(now + HANGING));
            now += HANGING;
        }
    }
    assert_eq!(members.next_due(), None);
    assert_eq!(members.due(now + seconds(29)), []);
    members.on_failure(&url("http://a:1"), now + seconds(29));
    assert_eq!(members.due(now + seconds(29)).len(), 1);
}

#[test]
fn a_seed_is_tried_with_growing_pauses_until_it_has_answered_once() {
    for announce in [0, 60] {
        let mut members = server(&["http://a:1"], announce);
        let up = seconds(600);
        let calls = run(&mut members, seconds(900), |_, now| (now > up).then(Vec::new));
        let pauses: Vec<f64> = pauses(&calls, "http://a:1").into_iter().take(12).collect();
        for (pause, doubled) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 48.0, 48.0, 48.0]) {
            assert!((doubled..=doubled * 1.25).contains(pause), "{pauses:?}");
        }
        assert_eq!(live_peers(&members), [OWN, "http://a:1"]);
        if announce == 0 {
            assert_eq!(calls_to(&calls, "http://a:1").iter().filter(|&&at| at > 600.0).count(), 1);
        }
    }
}

#[test]
fn without_announcements_an_idle_server_has_nothing_to_do() {
    let mut members = server(&["http://a:1"], 0);
    let calls = run(&mut members, seconds(9), |peer, _| (peer.as_str() == "http://a:1").then(|| vec!["http://b:1"]));
    assert_eq!(calls.len(), 2);
    assert_eq!(members.next_due(), None);
    assert_eq!(
        live_peers(&members),
        [OWN, "http://a:1", "http://b:1"],
        "b is not tried again, so it is not found dead"
    );
}

#[test]
fn each_period_three_of_the_living_are_called_and_none_twice() {
    for known in [1, 2, 3, 10, 500] {
        let mut members = server(&["http://peer:1"], 60);
        members.on_request(&urls(1..=known), Duration::ZERO);
        let all: Vec<String> = members.live_peers().map(ToString::to_string).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        run(&mut members, seconds(200), |_, _| Some(all.clone()));
        let mut turn = Vec::new();
        for _ in 0..known.div_ceil(3) {
            let at = members.next_period.unwrap();
            let called = due(&mut members, at);
            assert_eq!(called.len(), known.min(CALLS_PER_PERIOD));
            assert_eq!(called.iter().collect::<HashSet<_>>().len(), called.len());
            for peer in &called {
                members.on_response(&url(peer), &all, at);
            }
            turn.extend(called);
            let next = members.next_period.unwrap();
            assert!(next >= at + seconds(60) * 7 / 8 && next <= at + seconds(60) * 9 / 8, "{next:?} after {at:?}");
        }
        // Nobody waits for more than this turn and the next.
        let missed = known - turn.iter().collect::<HashSet<_>>().len();
        assert!(missed <= known / 2 + CALLS_PER_PERIOD, "{missed} of {known} were not called");
    }
}

#[test]
fn servers_that_are_started_together_do_not_march_in_step() {
    let first = |seed| {
        let mut members = Membership::new(url(OWN), vec![], Some(seconds(60)), Duration::ZERO, seed);
        let first = members.next_period.unwrap();
        members.due(first);
        (first, members.next_period.unwrap().saturating_sub(first))
    };
    let starts: HashSet<u64> = (0..60).map(|seed| first(seed).0.as_secs() / 6).collect();
    assert!(starts.len() >= 9, "{starts:?}");
    assert_ne!(first(1).1, first(2).1);
}

#[test]
fn in_a_period_one_call_goes_to_the_dead_and_the_rest_to_the_living() {
    let (mut members, _) = with_a_dead_peer();
    members.on_request(&["http://b:1", "http://c:1", "http://d:1"], seconds(240));
    let now = seconds(3600);
    let called = due(&mut members, now);
    assert_eq!(called.len(), CALLS_PER_PERIOD);
    assert!(called.contains(&"http://dead:1".to_owned()), "{called:?}");
}

#[test]
fn a_peer_that_has_called_is_not_called_next() {
    let mut members = server(&["http://peer:1"], 60);
    members.on_request(&urls(1..=300), Duration::ZERO);
    let all = urls(1..=300);
    let all: Vec<&str> = all.iter().map(PeerUrl::as_str).collect();
    run(&mut members, seconds(30), |_, _| Some(all.clone()));
    members.rotation = vec![2, 4, 1, 3];
    members.on_request(&["http://peer:2", "http://peer:1"], seconds(31));
    let at = members.next_period.unwrap();
    assert_eq!(due(&mut members, at), ["http://peer:1", "http://peer:3", "http://peer:4"]);
}

#[test]
fn who_was_not_asked_cannot_answer_or_fail() {
    let mut members = server(&[], 60);
    members.on_failure(&url("http://a:1"), Duration::ZERO);
    members.on_request(&["http://a:1"], Duration::ZERO);
    members.on_failure(&url("http://a:1"), Duration::ZERO);
    assert_eq!(members.on_response(&url("http://b:1"), &["http://c:1"], Duration::ZERO).new, [url("http://c:1")]);
    assert_eq!(live_peers(&members), [OWN, "http://a:1", "http://c:1"]);
}

#[test]
fn who_is_being_asked_is_not_planned_again() {
    let mut schedule = CallSchedule::default();
    schedule.plan(1, seconds(5));
    schedule.plan(1, seconds(3));
    assert_eq!(schedule.next_start(), Some(seconds(3)));
    assert_eq!(schedule.start_due(seconds(9)), [1]);
    schedule.plan(1, seconds(9));
    assert_eq!((schedule.next_start(), schedule.start_due(seconds(9))), (None, vec![]));
    assert!(schedule.finish(1) && !schedule.finish(1));
    schedule.plan(1, seconds(9));
    assert_eq!(schedule.start_due(seconds(9)), [1]);
}
