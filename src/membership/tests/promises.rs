//! What holds whatever happens in whatever order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Request(Vec<usize>),
    End(usize, Option<Vec<usize>>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let list = || proptest::collection::vec(0_usize..12, 0..6);
    let step = prop_oneof![
        (0_u64..100).prop_map(Step::Wait),
        list().prop_map(Step::Request),
        (0_usize..9, proptest::option::of(list())).prop_map(|(which, answer)| Step::End(which, answer)),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn whatever_happens_nobody_is_asked_twice_at_once_and_we_never(steps in steps(), named in 0_usize..4, announce in 0_u64..90) {
        let name = |number: &usize| if *number == 0 { OWN.to_owned() } else { format!("http://p:{number}") };
        let named: Vec<PeerUrl> = (0..named).map(|number| url(&name(&number))).collect();
        let mut members = Membership::new(url(OWN), named, Some(seconds(announce)), Duration::ZERO, 3);
        let mut now = Duration::ZERO;
        let mut asked: Vec<PeerUrl> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(pause) => now += seconds(pause),
                Step::Request(list) => {
                    let list: Vec<String> = list.iter().map(name).collect();
                    members.on_request(&list, now);
                }
                Step::End(_, _) if asked.is_empty() => {}
                Step::End(which, answer) => {
                    let peer = asked.remove(which % asked.len());
                    match answer {
                        Some(list) => {
                            let list: Vec<String> = list.iter().map(name).collect();
                            members.on_response(&peer, &list, now);
                        }
                        None => members.on_failure(&peer, now),
                    }
                }
            }
            let is_due = members.next_due().is_some_and(|at| at <= now);
            let announces = members.next_period.is_some_and(|at| at <= now);
            let due = members.due(now);
            prop_assert_eq!(is_due, !due.is_empty() || announces);
            prop_assert!(members.next_due().is_none_or(|at| at > now));
            for peer in due {
                prop_assert!(peer.as_str() != OWN && !asked.contains(&peer), "{} of {:?}", peer, asked);
                asked.push(peer);
            }
            let listed = live_peers(&members);
            prop_assert_eq!(listed[0], OWN);
            prop_assert_eq!(listed.iter().collect::<HashSet<_>>().len(), listed.len());
            prop_assert!(members.peers.iter().all(|peer| listed.contains(&peer.url.as_str()) != peer.failures.is_dead()));
        }
    }
}
