//! XML and calls that no friend would send, and how much of it.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use super::siege::{Siege, full_or, shown};
use crate::harness::{Answer, Connection, PASSWORD, array, int, method_call, post, proof, string};

/// The longest body that a call may have, in bytes.
const MOST: usize = 1 << 20;

/// A body may keep its caller waiting for ten times the second in which an honest call is answered.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a body deserves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deserves {
    Fault,
    False,
    Peers,
}

/// Bodies, each under a name and with what it deserves.
type Bodies = Vec<(String, Vec<u8>, Deserves)>;

/// As many copies as a body may hold.
fn filled_with(piece: &str) -> Vec<u8> {
    piece.repeat(MOST / piece.len()).into_bytes()
}

/// A call with one value in the place of `arg`, and so large that no more fits.
fn call_filled_with(url: &str, start: &str, piece: &str, end: &str) -> Vec<u8> {
    let call = call_by_friend(url, "0", &format!("<value>{start}@{end}</value>"));
    let (before, after) = call.split_once('@').unwrap();
    let pieces = piece.repeat((MOST - call.len()) / piece.len());
    format!("{before}{pieces}{after}").into_bytes()
}

/// A call with the right proof, whose op is spelled like this.
fn call_by_friend(url: &str, op: &str, arg: &str) -> String {
    method_call("f", &[&string(&proof(PASSWORD, url)), &format!("<value><int>{op}</int></value>"), arg])
}

/// Sends all bodies, from many connections at once in a full run.
fn survives(name: &str, bodies: impl FnOnce(&str) -> Bodies) {
    let mut siege = Siege::new(name);
    let bodies = bodies(siege.url());
    let slowest = siege.endure(|url| {
        let slowest = || {
            let took = |(name, body, deserves): &(String, Vec<u8>, Deserves)| -> (Duration, String) {
                assert!(body.len() <= MOST, "{name} is {} bytes long", body.len());
                let begin = Instant::now();
                let answer = post(url, body).answer();
                let took = begin.elapsed();
                let got = match &answer {
                    Answer(Err(fault)) if fault.text.contains("root:") => panic!("{name} got {fault:?}"),
                    Answer(Err(_)) => Deserves::Fault,
                    Answer(Ok(crate::harness::Value::Bool(false))) => Deserves::False,
                    Answer(Ok(_)) => {
                        assert_eq!(answer.clone().peers()[0], url, "{name}");
                        Deserves::Peers
                    }
                };
                assert_eq!(got, *deserves, "{name} got {answer:?}");
                assert!(took < DEADLINE, "{name} was answered after {took:?}");
                (took, name.clone())
            };
            (0..full_or(10, 1)).flat_map(|_| &bodies).map(took).max().unwrap()
        };
        thread::scope(|scope| {
            // So few that none finds the server busy.
            let senders: Vec<_> = (0..full_or(8, 2)).map(|_| scope.spawn(slowest)).collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).max().unwrap()
        })
    });
    println!("{name}: the slowest was {}, {:.1?}", slowest.1, slowest.0);
    siege.lift();
}

fn named<T: Into<Vec<u8>>>(deserves: Deserves, bodies: impl IntoIterator<Item = T>) -> Bodies {
    let bodies = bodies.into_iter().map(Into::into);
    bodies.map(|body: Vec<u8>| (shown(&body), body, deserves)).collect()
}

#[test]
fn bodies_that_are_no_call_get_a_fault() {
    survives("no calls", |url| {
        let good = call_by_friend(url, "0", &array([""; 0]));
        let all_bytes: Vec<u8> = (0..=255).collect();
        let mut bodies = named(Deserves::Fault, ["", " ", "f", "null", "{}", "<", ">", "&", "\0", "\u{feff}", "\r\n"]);
        let pieces =
            ["<", ">", "&", "&amp;", " ", "\0", "</", "<!", "<?", "<a>", "<a ", "<!--", "<![CDATA[", "]]>", "a='"];
        bodies.extend(named(Deserves::Fault, pieces.map(filled_with)));
        bodies.extend(named(Deserves::Fault, [all_bytes.repeat(MOST / 256), vec![0xff; MOST], vec![0xc3; MOST]]));
        let cuts = (1..good.len()).step_by(full_or(1, 37)).map(|length| &good[..length]);
        bodies.extend(named(Deserves::Fault, cuts));
        bodies.extend(named(Deserves::Fault, [good.clone() + "<", good.clone() + "x", good.clone() + &good]));
        bodies.extend(named(Deserves::Peers, [good.clone() + " \r\n\t<!-- and so on -->"]));
        bodies
    });
}

#[test]
fn bodies_nested_as_deep_as_they_can_be_get_a_fault() {
    survives("nests", |url| {
        let mut bodies = Bodies::new();
        for (open, close) in [
            ("<value><array><data>", "</data></array></value>"),
            ("<value><struct><member><name>a</name>", "</member></struct></value>"),
            ("<array><data><value>", "</value></data></array>"),
            ("<value>", "</value>"),
            ("<methodCall>", "</methodCall>"),
            ("<a>", "</a>"),
            ("<a", ""),
        ] {
            bodies.push((format!("{open} without an end"), filled_with(open), Deserves::Fault));
            let room = MOST - 500;
            let arg = open.repeat(room / open.len());
            bodies.push((format!("a call of {open}"), call_by_friend(url, "0", &arg).into(), Deserves::Fault));
            let levels = room / (open.len() + close.len());
            let arg = open.repeat(levels) + &close.repeat(levels);
            let call = call_by_friend(url, "0", &arg);
            bodies.push((format!("{levels} levels of {open}"), call.into(), Deserves::Fault));
        }
        bodies
    });
}

#[test]
fn bodies_with_as_many_parts_as_they_can_have_are_read_in_bounded_memory() {
    survives("many parts", |url| {
        let mut bodies = Bodies::new();
        for (start, piece, end, deserves) in [
            ("<array><data>", "<value/>", "</data></array>", Deserves::Fault),
            ("<array><data>", "<value>a</value>", "</data></array>", Deserves::Fault),
            ("<array><data>", "<value><int>1</int></value>", "</data></array>", Deserves::Fault),
            ("<array><data>", "<value><array><data/></array></value>", "</data></array>", Deserves::Peers),
            ("<array><data>", "<!---->", "</data></array>", Deserves::Peers),
            ("<array><data>", "<?a?>", "</data></array>", Deserves::Peers),
            ("<struct>", "<member><name/><value/></member>", "</struct>", Deserves::Fault),
            ("<string>", "&#x1F980;", "</string>", Deserves::Fault),
            ("<string>", "<![CDATA[]]>", "</string>", Deserves::Fault),
            ("<string>", "<!---->", "</string>", Deserves::Fault),
            ("<base64>", "QUJD", "</base64>", Deserves::Fault),
            ("<base64>", "QU\r\n JD", "</base64>", Deserves::Fault),
            ("<int>", "0", "</int>", Deserves::Fault),
        ] {
            bodies.push((format!("{start} of {piece}"), call_filled_with(url, start, piece, end), deserves));
        }
        let many = method_call("f", &vec!["<value/>"; 30_000]);
        bodies.push(("30,000 parameters".to_owned(), many.into(), Deserves::Fault));
        for (count, deserves) in [(10_000, Deserves::Peers), (100_000, Deserves::Fault)] {
            let call = call_by_friend(url, "0", &array([""; 0]));
            let call = call.replacen("<methodCall", &format!("<methodCall{}", " a=''".repeat(count)), 1);
            bodies.push((format!("the same attribute {count} times"), call.into(), deserves));
        }
        bodies
    });
}

/// Sends the costliest body from as many connections at once as have a place.
#[test]
fn the_costliest_bodies_all_at_once_fit_into_memory() {
    let mut siege = Siege::new("the costliest bodies");
    let costly = [
        ("<array><data>", "<value/>", "</data></array>"),
        ("<array><data>", "<value><string>a</string></value>", "</data></array>"),
        ("<struct>", "<member><name>a</name><value>a</value></member>", "</struct>"),
        ("<string>", "a", "</string>"),
        ("<base64>", "AAAA", "</base64>"),
    ];
    let mut bodies: Vec<_> =
        costly.into_iter().map(|(start, piece, end)| call_filled_with(siege.url(), start, piece, end)).collect();
    // As long as a body may be without a share of what long ones have together.
    let arrays = "<value/>".repeat(8000);
    bodies
        .push(call_by_friend(siege.url(), "0", &format!("<value><array><data>{arrays}</data></array></value>")).into());
    siege.endure(|url| {
        thread::scope(|scope| {
            for index in 0..full_or(200, 40) {
                let body = &bodies[index % bodies.len()];
                let request = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
                scope.spawn(move || {
                    for _ in 0..full_or(10, 2) {
                        // Some find the server busy, and some are turned out.
                        let mut connection = Connection::open(url);
                        connection.send(&request);
                        connection.send(body);
                        connection.rest();
                    }
                });
            }
        });
    });
    siege.lift();
}

#[test]
fn entities_and_foreign_encodings_get_a_fault() {
    survives("entities", |url| {
        let good = call_by_friend(url, "0", &array([""; 0]));
        let declared = |doctype: &str, entity: &str| {
            let call = good.replace("<methodCall>", &format!("{doctype}<methodCall>"));
            call.replace("<data>", &format!("<data><value><string>{entity}</string></value>"))
        };
        let mut laughs = "<!DOCTYPE l [<!ENTITY l0 \"ha\">".to_owned();
        for level in 1..=100 {
            let before = format!("&l{};", level - 1).repeat(10);
            write!(laughs, "<!ENTITY l{level} \"{before}\">").unwrap();
        }
        laughs.push_str("]>");
        let long = "a".repeat(100_000);
        let mut bodies = named(
            Deserves::Fault,
            [
                declared(&laughs, "&l100;"),
                declared(&format!("<!DOCTYPE q [<!ENTITY q \"{long}\">]>"), &"&q;".repeat(100_000)),
                declared("<!DOCTYPE r [<!ENTITY r \"&r;\">]>", "&r;"),
                declared("<!DOCTYPE x [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>", "&x;"),
                declared("<!DOCTYPE x [<!ENTITY x SYSTEM \"small\">]>", "&x;"),
                declared(&format!("<!DOCTYPE x [<!ENTITY x SYSTEM \"{url}/\">]>"), "&x;"),
                declared(&format!("<!DOCTYPE x [<!ENTITY % x SYSTEM \"{url}/\"> %x;]>"), ""),
                declared(&format!("<!DOCTYPE x SYSTEM \"{url}/\">"), ""),
                declared("<!DOCTYPE x>", ""),
                declared("<!doctype html>", ""),
                declared("<!DOCTYPE x [", ""),
                declared("<!ENTITY x \"y\">", "&x;"),
                declared("", "&x;"),
                declared("", "&nbsp;"),
                declared("", "&#0;"),
                declared("", "&#xD800;"),
                declared("", "&#x110000;"),
                declared("", "&#99999999999999999999;"),
                declared("", "&#;"),
                declared("", "&;"),
                declared("", "&#x41"),
                declared("", &format!("&{long};")),
                declared("", &format!("&#{}65;", "0".repeat(100_000))),
            ],
        );
        let wide = |order: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            format!("{mark}{good}").encode_utf16().flat_map(order).collect()
        };
        let utf_32: Vec<u8> = good.chars().flat_map(|character| u32::from(character).to_be_bytes()).collect();
        bodies.extend(named(
            Deserves::Fault,
            [
                wide(u16::to_le_bytes, "\u{feff}"),
                wide(u16::to_be_bytes, "\u{feff}"),
                wide(u16::to_le_bytes, ""),
                wide(u16::to_be_bytes, ""),
                utf_32,
            ],
        ));
        bodies.extend(named(Deserves::Peers, [format!("\u{feff}{good}"), good.clone()]));
        bodies
    });
}

#[test]
fn markup_in_odd_places_changes_no_meaning() {
    survives("odd markup", |url| {
        let good = call_by_friend(url, "0", &array([""; 0]));
        let with = |from: &str, to: &str| {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good, "{from} is there");
            changed
        };
        let proof = proof(PASSWORD, url);
        let (head, tail) = proof.split_at(9);
        let mut bodies = named(
            Deserves::Peers,
            [
                with(">f<", "><![CDATA[f]]><"),
                with(">f<", "> f\r\n<"),
                with(&proof, &format!("<![CDATA[{proof}]]>")),
                with(&proof, &format!("{head}<!-- <string>no</string> -->{tail}")),
                with(&proof, &format!("{head}<![CDATA[{tail}]]>")),
                with(&proof, &format!("<![CDATA[]]>{head}<?x y?><![CDATA[]]>{tail}<!---->")),
                with("<int>0", "<int><![CDATA[0]]>"),
                with("<int>0", "<int>0<!-- 1 -->0"),
                with("<params>", "<!-- a --><params><!-- b -->"),
                with("<array>", "<!-- <array> --><array>"),
                with("<methodCall>", "<methodCall a='1' a='2' a=\"3\">"),
                with("<methodCall>", "<methodCall xmlns='x' xmlns:y=\"z\">"),
                with("<array>", "<array a = '<' b='/>' c='>'>"),
                with("<?xml version='1.0'?>", "<?xml version='1.1' encoding='no such' standalone='?'?>"),
                with("<?xml version='1.0'?>", ""),
            ],
        );
        // What has another meaning than it seems has none.
        bodies.extend(named(
            Deserves::Fault,
            [
                with("<params>", "<![CDATA[<params>"),
                with("<params>", "<![CDATA[x]]><params>"),
                with("<array>", "<array>x"),
                with("<data>", "<data><![CDATA[x]]>"),
                with("<int>", "<int><!-- "),
                with("<int>", "<int><![CDATA["),
                with("<int>", "<int <!-- -->>"),
                with("<int>", "<int>&#x30"),
                with("<int>", "<INT>"),
                with("<int>", "<x:int>"),
                with("<int>", "<int><int>"),
                with("</int>", "</int ></int>"),
                with("</int>", "</i4>"),
                with("</params>", "</params><params></params>"),
                with("</methodName>", "</methodName><methodName>f</methodName>"),
                with("<?xml version='1.0'?>", "<?xml version='1.0'?><?xml version='1.0'?>x"),
                with("<int>", "<int><?xml version='1.0'?>"),
            ],
        ));
        bodies
    });
}

#[test]
fn unknown_methods_and_wrong_parameters_get_a_fault() {
    survives("wrong calls", |url| {
        let (right, op, arg) = (string(&proof(PASSWORD, url)), int(0), array([""; 0]));
        let wrong = string("wrong");
        let member = |name: &str, value: &str| format!("<member><name>{name}</name>{value}</member>");
        let params = format!("<value><array><data>{right}{op}{arg}</data></array></value>");
        let call = format!(
            "<value><struct>{}{}</struct></value>",
            member("methodName", &string("f")),
            member("params", &params)
        );
        let calls = format!("<value><array><data>{}</data></array></value>", call.repeat(1000));
        let mut bodies = named(
            Deserves::Fault,
            [
                method_call("system.listMethods", &[]),
                method_call("system.methodHelp", &[&string("f")]),
                method_call("system.methodSignature", &[&string("f")]),
                method_call("system.getCapabilities", &[]),
                method_call("system.multicall", &[&calls]),
                method_call("", &[&right, &op, &arg]),
                method_call("F", &[&right, &op, &arg]),
                method_call("f.__globals__", &[&right, &op, &arg]),
                method_call("ff", &[&right, &op, &arg]),
                method_call("\u{ff46}", &[&right, &op, &arg]),
                method_call("\u{1b}[2J\u{202e}", &[]),
                method_call(&"f".repeat(500_000), &[&right, &op, &arg]),
                method_call("f", &[]),
                method_call("f", &[&right]),
                method_call("f", &[&right, &op]),
                method_call("f", &[&right, &op, &arg, &arg]),
                method_call("f", &[&*wrong; 10]),
            ],
        );
        let refused = [
            method_call("f", &[&wrong, &op, &arg]),
            method_call("f", &[&arg, &arg, &arg]),
            method_call("f", &[&int(1), &string("("), &calls]),
            method_call("f", &["<value/>"; 3]),
            method_call("f", &["<value><nil/></value>"; 3]),
            method_call("f", &["<value><double>nan</double></value>"; 3]),
            method_call("f", &[&string(&"a".repeat(1_000_000)), &op, &arg]),
            method_call("f", &[&string(&proof(PASSWORD, url).to_uppercase()), &op, &arg]),
            method_call("f", &[&string(&proof(PASSWORD, url).repeat(1000)), &op, &arg]),
        ];
        bodies.extend(named(Deserves::False, refused));
        let wrong_ops =
            ["2147483648", "-2147483649", "4294967296", "18446744073709551616", "99999999999999999999999999"];
        let no_ops = ["", " ", "0x0", "0e0", "0.0", "--0", "+-0", "0 0", "\u{ff10}", "1_000", "NaN", "true", "&#48;;"];
        for op in wrong_ops.iter().chain(&no_ops) {
            bodies.extend(named(Deserves::Fault, [call_by_friend(url, op, &arg)]));
        }
        for op in ["0", "-0", "+0", "000", " 0\n", "&#48;", "<![CDATA[0]]>"] {
            bodies.extend(named(Deserves::Peers, [call_by_friend(url, op, &arg)]));
        }
        for (op, arg) in [("0", &op), ("0", &right), ("1", &op), ("1", &arg), ("2", &op), ("-2147483648", &arg)] {
            bodies.extend(named(Deserves::Fault, [call_by_friend(url, op, arg)]));
        }
        bodies
    });
}
