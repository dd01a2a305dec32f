//! What patterns mean, by Python's judgement, and which are refused.

mod chosen;
mod python;
mod random;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use python::{NAMES, differences};
use random::Dice;

#[test]
fn the_empty_pattern_matches_all_names() {
    let pattern = Pattern::new("").unwrap();
    assert!(NAMES.split_whitespace().all(|name| pattern.is_found_in(name)));
    assert_eq!(pattern.as_str(), "");
}

#[test]
fn peers_are_sent_the_pattern_as_it_was_given() {
    assert_eq!(Pattern::new(r"(?i)\bé[[]{,3}\Z").unwrap().as_str(), r"(?i)\bé[[]{,3}\Z");
}

#[test]
fn everything_but_can_be_said() {
    let names = ["a.iso", "a.jpg", "b.iso", "b.jpg"];
    for (pattern, found) in [
        (r"^(?!.*\.iso$)", &["a.jpg", "b.jpg"][..]),
        (r"(?<!\.iso)$", &["a.jpg", "b.jpg"]),
        (r"(?i)^a.*(?<!\.ISO)$", &["a.jpg"]),
        (r"^(?=.*\.iso$)(?!a)", &["b.iso"]),
        (r"(?=.*jpg)(?=.*b)", &["b.jpg"]),
        (r"^(?!a)\w\.(?<!\.)$", &[]),
    ] {
        let pattern = Pattern::new(pattern).unwrap();
        let matches: Vec<&str> = names.into_iter().filter(|name| pattern.is_found_in(name)).collect();
        assert_eq!(matches, found, "{}", pattern.as_str());
    }
}

#[test]
fn a_bad_pattern_says_what_is_wrong_and_where() {
    for (pattern, text) in [
        ("(a", "the parenthesis is not closed at character 1"),
        ("a)", "unbalanced parenthesis at character 2"),
        ("é[b", "the bracket is not closed at character 2"),
        ("[b-a]", "bad range of characters at character 1"),
        (r"a\", "nothing follows the backslash at character 2"),
        (r"a\y", "bad escape at character 2"),
        (r"\x4", "bad escape at character 1"),
        (r"\400", "the octal escape is greater than 377 at character 1"),
        ("a+*", "nothing to repeat at character 3"),
        ("a{2,1}", "bad repeat count at character 2"),
        ("a(?i)", "global flags stand at the start or nowhere at character 2"),
        ("(?y)a", "unknown or unfinished group at character 1"),
        ("(?P<n>a)(?P<n>b)", "two groups have the same name at character 9"),
        ("(?<!a*)$", "look-behind without a fixed width at character 1"),
        ("x(?=a)", "look-ahead other than directly after a leading ^ is not supported at character 2"),
        ("(?!a)", "look-ahead other than directly after a leading ^ is not supported at character 1"),
        ("(?<!a)x", "look-behind other than directly before the last $ is not supported at character 1"),
        ("^(?!a)b|c", "a | outside of groups is not supported beside look-around at character 8"),
        (r"(a)\1", "a back-reference is not supported at character 4"),
        ("(?P<n>a)(?P=n)", "a back-reference is not supported at character 9"),
        ("(a)?(?(1)b)", "a conditional is not supported at character 5"),
        ("(?>a)", "an atomic group is not supported at character 1"),
        ("a++", "a possessive repeat is not supported at character 2"),
        (r"\N{BULLET}", r"a character by its name, \N{...}, is not supported at character 1"),
        (r"\ud800", "half of a surrogate pair is not supported at character 1"),
        (r"(?i)[\S][\S][\S]", "the classes are too large to ignore case at character 13"),
    ] {
        assert_eq!(Pattern::new(pattern).unwrap_err().to_string(), text, "{pattern}");
    }
    assert_eq!(Pattern::new(&"x".repeat(4097)).unwrap_err().to_string(), "it is longer than 4096 bytes");
}

/// Where the regex crate's Unicode and Python differ: combining marks, numbers that are no digits, and a few cases.
#[test]
fn odd_letters_differ_from_python() {
    for (pattern, name, is_found) in [
        (r"^\w+$", "e\u{301}", true),
        (r"e\b", "e\u{301}", false),
        (r"\w", "\u{200d}", true),
        (r"\w", "Ⓐ", true),
        (r"\w", "²", false),
        (r"(?i)i", "İ", false),
        (r"(?ai)k", "\u{212a}", true),
        (r"(?ai)é", "É", true),
    ] {
        assert_eq!(Pattern::new(pattern).unwrap().is_found_in(name), is_found, "{pattern} in {name}");
        assert_ne!(differences(&[name], &[pattern.to_owned()]), "", "{pattern} in {name}");
    }
}

#[test]
fn a_glob_gets_a_hint_what_to_write_instead() {
    for (glob, regex) in [
        ("*.txt", r"\.txt$"),
        ("*", ""),
        ("**", ""),
        ("*.tar.gz", r"\.tar\.gz$"),
        ("*foo*", "foo"),
        ("?.c", r"^.\.c$"),
        ("*a?b*.c", r"a.b.*\.c$"),
        ("*.{jpg,png}", r"\.(jpg|png)$"),
        ("*.[ch]", r"\.[ch]$"),
        ("*.[!ch]", r"\.[^ch]$"),
    ] {
        let text = Pattern::new(glob).unwrap_err().to_string();
        let hint = if regex.is_empty() { "'' for all names" } else { &format!("'{regex}' instead of the glob") };
        let hint = format!("; a pattern is a regular expression, write {hint}");
        assert!(text.ends_with(&hint), "{glob}: {text}");
        assert!(Pattern::new(regex).is_ok(), "{glob}");
    }
    for no_glob in ["+", "(*", r"*\d", "a{2}{3}", "*\u{1b}[2J", "*[", "*{"] {
        assert!(!Pattern::new(no_glob).unwrap_err().to_string().contains("glob"), "{no_glob}");
    }
    assert!(Pattern::new("foo*.jpg").unwrap().is_found_in("fooo.jpg"));
}

#[test]
fn expensive_patterns_are_refused_at_once() {
    let nested = |times: usize| format!("{}a{}", "(".repeat(times), "b?)?".repeat(times));
    for pattern in [
        r"(\w{1000}){1000}",
        r"\w{4000}",
        r"(?:\w\W){60}",
        "(((((.{9}){9}){9}){9}){9}){9}",
        "a{4294967294}",
        "(?:(?:a{0,255}){0,255}){0,255}",
        &r"\w".repeat(2048),
        &r"\b\W".repeat(1000),
        &r"[\w.]".repeat(800),
        &format!("(?i){}", "[b-\u{1eff}]".repeat(500)),
        &format!("(?i){}", r"[\S]".repeat(1000)),
        &format!("^{}", "(?!a)".repeat(800)),
        &nested(100),
        &nested(800),
        &"x".repeat(1 << 20),
    ] {
        let start = Instant::now();
        let error = Pattern::new(pattern).unwrap_err().to_string();
        let is_limit = ["it is too complex", "it is longer than", "the classes are too"]
            .iter()
            .any(|limit| error.starts_with(limit));
        assert!(is_limit, "{pattern}: {error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{error} after {:?}", start.elapsed());
    }
}

/// Searches three times 100 names of about 255 bytes and returns how long 10,000 take, by the quickest time.
fn time_for_10_000_names(pattern: &str) -> Duration {
    let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut name = |kind: usize| -> String {
        let (letters, count) = [("ab", 255), ("photo 2024-05-17.jpg", 255), ("жé日b ", 140), ("a", 255)][kind % 4];
        let letters: Vec<char> = letters.chars().collect();
        (0..count).map(|_| letters[dice.below(letters.len())]).collect()
    };
    let mut round = || {
        let names: Vec<String> = (0..100).map(&mut name).collect();
        let start = Instant::now();
        let found = names.iter().filter(|name| pattern.is_found_in(name)).count();
        (start.elapsed() * 100, found)
    };
    let (time, found) = [round(), round(), round()].into_iter().min().unwrap();
    println!("{time:?} for 10,000 names of which {found} % match: {}", pattern.as_str());
    time
}

/// An optimised build takes 0.2 s at most.
#[test]
fn ordinary_patterns_are_quick() {
    for pattern in [
        r"\.pdf$",
        r"(?i)\.(jpe?g|png)$",
        r"\w{1,50}",
        r"^\w{1,50}$",
        r"\w{1,50}\.jpg$",
        r"\b\w{1,50}\b",
        r"\bholiday\b",
        r"\d{4}-\d{2}-\d{2}",
        r"^[^.]{1,200}\.[a-z]{3}$",
        r"(?i)^(?!.*\.iso$)(?=.*holiday)",
        r"^\w+.*(?<!\.iso)$",
        r"(?i)^[\w -]+\.(mp3|ogg|flac)$",
    ] {
        assert!(time_for_10_000_names(pattern) < Duration::from_secs(5), "{pattern}");
    }
}

/// The slowest patterns that attacks found; an optimised build takes 20 ms a name at most.
#[test]
fn expensive_patterns_within_the_limits_are_bearable() {
    for pattern in [
        r".*a(?:(?:\B(?:(?:[^ж]){0,20}[^ж]?)+)??){0,40}[^a-z]!",
        r"a(?:b?(?: {0,2}){3,}\S{0,20}){33}!",
        r"\b(?:.?){600}\b!",
        r"^(?!.*(?:a?b?){300}[^ab])(?=.*\w{1,20}$)",
        &(1000..1800).map(|number| number.to_string()).collect::<Vec<_>>().join("|"),
    ] {
        assert!(time_for_10_000_names(pattern) < Duration::from_secs(2000), "{pattern}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_is_refused(text in any::<String>(), name in any::<String>()) {
        match Pattern::new(&text) {
            Ok(pattern) => {
                pattern.is_found_in(&name);
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
        }
    }

    #[test]
    fn any_text_of_awkward_characters_is_a_pattern_or_is_refused(
        text in r"[\^]?(\(\?<?[=!])?[()\[\]{}*+?|^$.\\a-z,0-9<>=!:#P é²&~-]{0,40}",
        name in r"[a-z0-9 é²\u{301}_.-]{0,20}",
    ) {
        if let Ok(pattern) = Pattern::new(&text) {
            pattern.is_found_in(&name);
        }
    }

    #[test]
    fn an_escaped_name_finds_itself(name in any::<String>()) {
        let escaped: String = name.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect();
        prop_assert!(Pattern::new(&escaped).unwrap().is_found_in(&name));
    }
}
