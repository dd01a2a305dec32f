//! What patterns mean, by Python's judgement, and which are refused.

mod modes;
mod python;
mod random;
mod syntax;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use python::NAMES;

#[test]
fn the_empty_pattern_matches_all_names() {
    let pattern = Pattern::new("").unwrap();
    assert!(NAMES.iter().all(|name| pattern.is_found_in(name)));
    assert_eq!(pattern.as_str(), "");
}

#[test]
fn peers_are_sent_the_pattern_as_it_was_given() {
    assert_eq!(Pattern::new(r"(?i)\bé[[]{,3}\Z").unwrap().as_str(), r"(?i)\bé[[]{,3}\Z");
}

#[test]
fn a_bad_pattern_says_what_is_wrong() {
    for (pattern, text) in [
        ("(a", "the parenthesis is not closed at character 1"),
        ("é[b", "the bracket is not closed at character 2"),
        (r"a\", "nothing follows the backslash at character 2"),
        (r"\y", r"unknown escape \y at character 1"),
        (r"a\x4", r"\x wants 2 hexadecimal digits that name a character at character 2"),
        ("a+*", "multiple repeat at character 3"),
        ("a{2,1}", "the least count is greater than the greatest at character 2"),
        ("x(?=a)", "it uses look-ahead, which is not supported here"),
        ("(?<!a)x", "it uses look-behind, which is not supported here"),
        (r"(a)\1", "it uses a back-reference, which is not supported here"),
        ("(?P<n>a)(?P=n)", "it uses a back-reference, which is not supported here"),
        ("(a)?(?(1)b)", "it uses a conditional, which is not supported here"),
        ("(?>a)", "it uses an atomic group, which is not supported here"),
        ("a++", "it uses a possessive repeat, which is not supported here"),
        (r"\N{BULLET}", r"it uses a character by its name, \N{...}, which is not supported here"),
        ("(?t)a", "it uses the flag t, which is not supported here"),
    ] {
        assert_eq!(Pattern::new(pattern).unwrap_err().to_string(), text, "{pattern}");
    }
    assert_eq!(Pattern::new(&"x".repeat(4097)).unwrap_err().to_string(), "it is longer than 4096 bytes");
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
        let hint = if regex.is_empty() {
            "write '' for all names".to_owned()
        } else {
            format!("write '{regex}' instead of the glob")
        };
        assert!(text.ends_with(&format!("; a pattern is a regular expression, {hint}")), "{glob}: {text}");
        assert!(Pattern::new(regex).is_ok(), "{glob}");
    }
    for no_glob in ["+", "(*", r"*\d", "a{2}{3}", "*\u{1b}[2J", "*[", "*{"] {
        assert!(!Pattern::new(no_glob).unwrap_err().to_string().contains("glob"), "{no_glob}");
    }
    assert!(Pattern::new("foo*.jpg").unwrap().is_found_in("fooo.jpg"));
}

#[test]
fn expensive_patterns_are_refused_at_once() {
    let nested = |times: usize| format!("{}a{}", "(".repeat(times), ")".repeat(times));
    for pattern in [
        r"(\w{1000}){1000}",
        r"\w{4000}",
        r"(?:\w\W){60}",
        "(((((.{9}){9}){9}){9}){9}){9}",
        "a{4294967294}",
        "(?:){4294967294}",
        r"(?:\b){4294967294}",
        "(?:(?:a{0,255}){0,255}){0,255}",
        "((((((((){1000}){1000}){1000}){1000}){1000}){1000}){1000})",
        &r"\w".repeat(2048),
        &r"\b\W".repeat(1000),
        &r"[\w.]".repeat(800),
        &format!("(?i){}", "[b-\u{1eff}]".repeat(500)),
        &format!("(?i)[{}]", "b-\u{1eff}".repeat(600)),
        &nested(51),
        &nested(2000),
        &"x".repeat(1 << 20),
    ] {
        let start = Instant::now();
        let error = Pattern::new(pattern).unwrap_err();
        assert!(matches!(error.0, Cause::TooLarge | Cause::TooLong), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{error} after {:?}", start.elapsed());
    }
}

#[test]
fn large_patterns_within_the_limits_are_searched_at_once() {
    for pattern in [
        r"^\w{64}$",
        r"\b\w{3,20}\b",
        r"(?i)[a-z0-9]{255}",
        r"\b[^.]{200}",
        "(?:a?b?){1300}[^ab]",
        "[ab]*a[ab]{2000}[^ab]",
        &"[^a]".repeat(1000),
        &"(?:a|b".repeat(50).chars().chain(")*".repeat(50).chars()).collect::<String>(),
        &(1000..1400).map(|number| number.to_string()).collect::<Vec<_>>().join("|"),
    ] {
        let start = Instant::now();
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        pattern.is_found_in(&"ab".repeat(127));
        assert!(start.elapsed() < Duration::from_secs(10), "{} took {:?}", pattern.as_str(), start.elapsed());
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
        text in r"[()\[\]{}*+?|^$.\\a-z,0-9<>=!:#P é²&~-]{0,40}",
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
