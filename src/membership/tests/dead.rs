//! Peers that are found dead, and come back.

use super::*;

#[test]
fn three_failures_in_a_row_a_minute_or_more_apart_make_a_peer_dead() {
    for (failures, is_dead) in [
        (vec![0, 60, 120], true),
        (vec![0, 59, 60, 61, 119], false),
        (vec![0, 30, 60, 90, 120], true),
        (vec![0, 1, 2, 3, 4, 5], false),
        (vec![0, 1000], false),
    ] {
        let mut members = server(&["http://a:1"], 0);
        for &at in &failures {
            members.schedule.plan(1, seconds(at));
            assert_eq!(due(&mut members, seconds(at)), ["http://a:1"]);
            members.on_failure(&url("http://a:1"), seconds(at));
        }
        let expected = if is_dead { vec![OWN] } else { vec![OWN, "http://a:1"] };
        assert_eq!(live_peers(&members), expected, "{failures:?}");
        assert_eq!(peers_to_send(&members), expected, "{failures:?}");
    }
}

#[test]
fn an_answer_between_failures_begins_the_count_again() {
    let mut members = server(&["http://a:1"], 0);
    for (at, answers) in [(0, false), (60, false), (120, true), (180, false), (240, false)] {
        members.schedule.plan(1, seconds(at));
        members.due(seconds(at));
        if answers {
            members.on_response(&url("http://a:1"), NONE, seconds(at));
        } else {
            members.on_failure(&url("http://a:1"), seconds(at));
        }
    }
    assert_eq!(live_peers(&members), [OWN, "http://a:1"]);
}

#[test]
fn a_dead_peer_is_tried_ever_more_rarely_and_back_once_it_answers() {
    let mut members = server(&["http://a:1"], 60);
    let died = seconds(100);
    let back = seconds(4 * 3600);
    let calls = run(&mut members, seconds(6 * 3600), |peer, now| match peer.as_str() {
        "http://b:1" if now > died && now < back => None,
        _ => Some(vec!["http://b:1"]),
    });
    let tried: Vec<f64> = calls_to(&calls, "http://b:1").into_iter().skip_while(|&at| at <= 100.0).collect();
    let mut pauses = tried.windows(2).map(|pair| (pair[1] - pair[0]) / 60.0);
    for (minutes, why) in
        [(1, "retry"), (1, "retry"), (2, "dead"), (4, "dead"), (8, "dead"), (15, "dead"), (15, "dead")]
    {
        let (pause, least) = (pauses.next().unwrap(), f64::from(minutes));
        // The trial waits for the next announcement.
        assert!((least..least * 1.25 + 1.1).contains(&pause), "{why}: {pause} instead of {least} minutes");
    }
    let first_answer = tried.iter().find(|&&at| at >= back.as_secs_f64()).unwrap();
    assert!(first_answer - back.as_secs_f64() < 20.0 * 60.0);
    assert_eq!(live_peers(&members), [OWN, "http://a:1", "http://b:1"]);
}

#[test]
fn the_word_of_others_does_not_bring_back_the_dead() {
    let (mut members, now) = with_a_dead_peer();
    for list in [&["http://dead:1"][..], &["http://a:1", "http://dead:1"]] {
        assert_eq!(members.on_request(list, now), MergeOutcome::default());
        assert_eq!(live_peers(&members), [OWN, "http://a:1"]);
    }
    let outcome = members.on_response(&url("http://a:1"), &["http://dead:1"], now);
    assert_eq!(outcome, MergeOutcome::default());
    assert_eq!(peers_to_send(&members), [OWN, "http://a:1"]);
}

#[test]
fn a_dead_peer_that_calls_is_tried_at_once_but_once_a_minute_at_most() {
    let (mut members, mut now) = with_a_dead_peer();
    members.period = None;
    members.next_period = None;
    let dead = url("http://dead:1");
    members.on_request(&["http://a:1", "http://dead:1"], now);
    assert_eq!(members.next_due(), None, "only the first on a list speaks for itself");
    now += seconds(200);
    members.on_request(&[&dead], now);
    members.on_request(&[&dead], now);
    assert_eq!(due(&mut members, now), ["http://dead:1"]);
    members.on_failure(&dead, now);
    assert_eq!(members.next_due(), None);
    members.on_request(&[&dead], now + seconds(1));
    let next = now + FAILURE_INTERVAL;
    assert_eq!(members.next_due(), Some(next));
    assert_eq!(due(&mut members, next), ["http://dead:1"]);
    members.on_failure(&dead, next);
    now = next;
    now += seconds(100);
    members.on_request(&[&dead], now);
    members.due(now);
    members.on_response(&dead, NONE, now);
    assert_eq!(live_peers(&members), [OWN, "http://a:1", "http://dead:1"]);
}

#[test]
fn a_dead_peer_that_answers_has_us_try_the_dead_on_its_list() {
    let mut members = server(&["http://a:1", "http://b:1", "http://c:1", "http://d:1"], 0);
    for at in [0, 60, 120] {
        (2..=4).for_each(|place| members.schedule.plan(place, seconds(at)));
        for peer in members.due(seconds(at)) {
            match peer.as_str() {
                "http://a:1" => _ = members.on_response(&peer, NONE, seconds(at)),
                _ => members.on_failure(&peer, seconds(at)),
            }
        }
    }
    assert_eq!(live_peers(&members), [OWN, "http://a:1"]);
    // As if they were no seeds, which alone would have them tried now and then.
    (2..=4).for_each(|place| members.schedule.plan(place, seconds(9000)));
    members.schedule.plan(2, seconds(300));
    for place in [3, 4] {
        members.schedule.plan(place, seconds(200));
    }
    assert_eq!(members.due(seconds(200)).len(), 2);
    for peer in ["http://c:1", "http://d:1"] {
        members.peers[members.index[peer]].is_seed = false;
        members.on_failure(&url(peer), seconds(200));
    }
    assert_eq!(due(&mut members, seconds(300)), ["http://b:1"]);
    members.on_response(&url("http://b:1"), &["http://c:1", "http://b:1"], seconds(300));
    assert_eq!(due(&mut members, seconds(300)), ["http://c:1"], "d was not on its list");
    assert_eq!(live_peers(&members), [OWN, "http://a:1", "http://b:1"]);
}
