//! Keeps the order of the house: reads the imports of `src` and fails on one that goes up the layers or round in a
//! circle, and on a foreign crate that is known to a room that need not know it.
//!
//! A room is a file or a folder of `src`; of `server` each file is one. What a room imports from itself is its own
//! affair, and so is what tests import. Whoever adds a file or a dependency adds it to the table below.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A room: its layer, its name, and the foreign crates that it alone knows. Of two that fit a file the first counts.
type Room = (u32, &'static str, &'static [&'static str]);

/// The rooms of the house, the uppermost first. `main.rs` stands above them all.
const ROOMS: &[Room] = &[
    (4, "cli", &["clap", "clap_complete", "clap_mangen"]),
    (4, "server/mod", &[]),
    (3, "server/listener", &["socket2"]),
    (3, "server/connections", &[]),
    (3, "server/connection", &["socket2"]),
    (3, "server/request", &["httparse"]),
    (3, "server/response", &["httpdate"]),
    (3, "server/backend", &["socket2", "tiny_http"]),
    (3, "server/backend_pool", &[]),
    (3, "server/private_socket", &["socket2"]),
    (3, "server/privacy", &[]),
    (3, "server/activity", &[]),
    (3, "server/limits", &[]),
    (3, "server/handler", &[]),
    (3, "server/transfer_log", &[]),
    (3, "server/gossip", &[]),
    (3, "server/mirror", &[]),
    (3, "server/mirror_thread", &[]),
    (4, "client/mod", &[]),
    (3, "client", &[]),
    (2, "peer_client", &["httpdate", "socket2", "ureq"]),
    (2, "secure", &["hmac", "ring", "rustls", "sha2", "spake2"]),
    (2, "shared_dir", &[]),
    (2, "download_dir", &["tempfile"]),
    (2, "membership", &[]),
    (2, "progress", &["indicatif"]),
    (2, "logger", &["humantime"]),
    (2, "format", &[]),
    (1, "protocol", &[]),
    (1, "pack", &["tar"]),
    (1, "xmlrpc", &["quick_xml", "base64_simd", "memchr"]),
    (1, "pattern", &["regex", "regex_syntax"]),
    (0, "address", &[]),
    (0, "file_name", &[]),
    (0, "escape", &[]),
    (0, "peer", &[]),
    (0, "auth", &["hmac", "md5", "hex"]),
    (0, "digest", &["sha2"]),
    (0, "password", &[]),
    (0, "error", &[]),
    (0, "signals", &["signal_hook"]),
    (0, "fd_limit", &[]),
    (1, "rate_limit", &[]),
    (0, "lock", &[]),
];

/// Crates that any room may know: they stand for the system, random numbers, the log and the deriving of errors, not for
/// a matter that one room can keep to itself.
const SHARED_CRATES: &[&str] = &["log", "rustix", "fastrand", "thiserror"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The source files but `main.rs` and those of tests, as paths below `src` without `.rs`, and their code.
fn sources() -> BTreeMap<String, String> {
    let src = root().join("src");
    let mut sources = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if matches!(&*stem, "tests" | "simulation") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path != src.join("main.rs") {
                let name = path.with_extension("").strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
                sources.insert(name, without_tests_and_comments(&path));
            }
        }
    }
    sources
}

fn without_tests_and_comments(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut lines, line.len() - line.trim_start().len());
        } else {
            code.push_str(line.split("//").next().unwrap());
            code.push('\n');
        }
    }
    code
}

/// Passes over the item that follows: to its `;`, or to the brace that closes it at its own indent.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>, indent: usize) {
    let closing = format!("{}}}", " ".repeat(indent));
    let first = lines.find(|line| !line.trim_start().starts_with("#["));
    if first.is_some_and(|line| !line.ends_with([';', ',', '}'])) {
        lines.find(|line| *line == closing);
    }
}

/// The paths that the code of a file names, from the root of the crate on: `crate`, `super` and `self` are resolved,
/// braces are taken apart, and any other path stands as it is.
fn paths(name: &str, code: &str) -> Vec<Vec<String>> {
    let mut module: Vec<&str> = name.split('/').collect();
    module.pop_if(|last| *last == "mod");
    let code: String = code.replace(" as ", "#").split_whitespace().collect::<Vec<_>>().join(" ");
    let is_part = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let mut paths = Vec::new();
    let mut rest = &*code;
    while let Some(begin) = rest.find(|character| is_part(character) && character != ':') {
        rest = &rest[begin..];
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let mut used = vec![word.to_owned()];
        rest = behind;
        if word.ends_with("::") && behind.starts_with('{') {
            let (tree, behind) = behind.split_at(closing_brace(behind) + 1);
            used = expand(word, tree);
            rest = behind;
        }
        for path in used.iter().filter(|path| path.contains("::")) {
            paths.push(resolve(path, &module));
        }
    }
    paths
}

/// Where the brace is closed that the text begins with.
fn closing_brace(text: &str) -> usize {
    let mut depth = 0;
    let closes = |character| {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    };
    text.find(closes).expect("every brace is closed")
}

/// Takes `{a, b::{c, d}}` apart, with the prefix before each of its paths.
fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = tree[1..tree.len() - 1].trim_start();
    while let Some(end) = rest.find([',', '{']).or((!rest.is_empty()).then_some(rest.len())) {
        let path = format!("{prefix}{}", rest[..end].trim());
        rest = &rest[end..];
        if rest.starts_with('{') {
            let (tree, behind) = rest.split_at(closing_brace(rest) + 1);
            paths.extend(expand(&path, tree));
            rest = behind;
        } else {
            paths.push(path);
        }
        rest = rest.trim_start_matches([',', ' ']);
    }
    paths
}

fn resolve(path: &str, module: &[&str]) -> Vec<String> {
    let mut resolved: Vec<&str> = Vec::new();
    for (index, part) in path.split("::").enumerate() {
        match part {
            "crate" => resolved.push("crate"),
            "self" if index == 0 => resolved.extend(["crate"].iter().chain(module)),
            "super" if index == 0 => resolved.extend(["crate"].iter().chain(&module[..module.len() - 1])),
            "super" => _ = resolved.pop(),
            part => resolved.push(part.split('#').next().unwrap()),
        }
    }
    resolved.into_iter().map(str::to_owned).collect()
}

/// The source file that a path of this crate leads to, if it leads to one.
fn file_of<'a>(path: &[String], sources: &'a BTreeMap<String, String>) -> Option<&'a str> {
    (1..path.len()).rev().find_map(|end| {
        let name = path[1..=end].join("/");
        let found = sources.get_key_value(&name).or_else(|| sources.get_key_value(&format!("{name}/mod")));
        found.map(|(name, _)| &**name)
    })
}

/// The room that a file belongs to, which must be in the table.
fn room_of(name: &str) -> &'static Room {
    let is_in = |room: &&Room| name == room.1 || name.strip_prefix(room.1).is_some_and(|rest| rest.starts_with('/'));
    ROOMS.iter().find(is_in).unwrap_or_else(|| {
        panic!("src/{name}.rs belongs to no room: add it, with its layer, to ROOMS in tests/integration/layers.rs")
    })
}

/// Whether both files lie in one room: in the same folder, unless it is that of the server.
fn is_within_one_room(one: &str, other: &str) -> bool {
    let folder = |name: &str| name.split('/').next().unwrap().to_owned();
    one == other || folder(one) == folder(other) && folder(one) != "server"
}

/// The rooms that each room imports from, with the file that does.
fn imports() -> BTreeMap<&'static str, BTreeMap<&'static str, String>> {
    let sources = sources();
    let mut imports: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (name, code) in &sources {
        let from = room_of(name);
        for path in paths(name, code).iter().filter(|path| path[0] == "crate") {
            if let Some(file) = file_of(path, &sources)
                && !is_within_one_room(name, file)
            {
                imports.entry(from.1).or_default().insert(room_of(file).1, name.clone());
            }
        }
    }
    imports
}

fn layer(room: &str) -> u32 {
    room_of(room).0
}

#[test]
fn imports_go_down_the_layers_and_server_and_client_do_not_know_each_other() {
    let mut wrong = Vec::new();
    for (from, rooms) in imports() {
        for (to, file) in rooms {
            if layer(to) > layer(from) {
                let (above, below) = (layer(to), layer(from));
                wrong.push(format!("src/{file}.rs is of layer {below} and imports from {to} of layer {above}"));
            }
            let is_of = |room: &str, side: &str| room.starts_with(side);
            let is_mirror = from == "server/mod";
            if is_of(from, "server") && is_of(to, "client") && !is_mirror
                || is_of(from, "client") && is_of(to, "server")
            {
                wrong.push(format!("src/{file}.rs imports from {to}, but server and client do not know each other"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that the house does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_table_is_there() {
    let rooms: BTreeSet<&str> = sources().keys().map(|name| room_of(name).1).collect();
    let missing: Vec<&str> = ROOMS.iter().map(|room| room.1).filter(|room| !rooms.contains(room)).collect();
    assert!(missing.is_empty(), "ROOMS in tests/integration/layers.rs names what src has not: {}", missing.join(", "));
}

#[test]
fn imports_go_round_in_no_circle() {
    let imports = imports();
    let mut done = BTreeSet::new();
    for room in imports.keys() {
        follow(room, &imports, &mut Vec::new(), &mut done);
    }
}

fn follow<'a>(
    room: &'a str,
    imports: &BTreeMap<&'a str, BTreeMap<&'a str, String>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) {
    way.push(room);
    let begin = way.iter().position(|passed| *passed == room).unwrap();
    assert!(begin == way.len() - 1, "imports go round in a circle: {}", way[begin..].join(" -> "));
    if done.insert(room) {
        for to in imports.get(room).into_iter().flat_map(BTreeMap::keys) {
            follow(to, imports, way, done);
        }
    }
    way.pop();
}

/// The crates that the program depends on, as its code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") }).collect()
}

#[test]
fn each_foreign_crate_is_known_to_one_room() {
    let dependencies = dependencies();
    let mut wrong = BTreeSet::new();
    for name in &dependencies {
        let knowing = ROOMS.iter().filter(|room| room.2.contains(&&**name)).count();
        if knowing == 0 && !SHARED_CRATES.contains(&&**name) {
            wrong.insert(format!("{name} is known to no room: add it to one in tests/integration/layers.rs"));
        }
    }
    for (file, code) in sources() {
        let (_, room, own) = room_of(&file);
        for path in paths(&file, &code) {
            let name = &*path[0];
            if dependencies.contains(name) && !own.contains(&name) && !SHARED_CRATES.contains(&name) {
                wrong.insert(format!("src/{file}.rs uses {name}, which is not a matter of {room}"));
            }
        }
    }
    assert!(wrong.is_empty(), "foreign crates out of their rooms:\n{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn every_way_to_name_another_room_is_seen() {
    let code = "use super::{\n    handler::{self, Handler},\n    limits as bounds,\n};\nuse crate::peer;\n\
                fn f(x: &crate::format::Size) { log::info!(\"{}\", self::child::g(super::super::escape::E)) }\n";
    let found: BTreeSet<String> = paths("server/gossip", code).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::escape::E",
        "crate::format::Size",
        "crate::peer",
        "crate::server::gossip::child::g",
        "crate::server::handler::Handler",
        "crate::server::handler::self",
        "crate::server::limits",
        "log::info",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}
