//! Characters and classes of characters, rewritten in the syntax of the regex crate.

use std::sync::LazyLock;

use regex::Regex;
use regex_syntax::hir::{self, HirKind};

const BAD_RANGE: &str = "bad range of characters";

/// A member of a class: an escape or a character, or a range from one to another.
static MEMBER: LazyLock<Regex> = LazyLock::new(|| {
    let member = r"\\(?:x[[:xdigit:]]{2}|u[[:xdigit:]]{4}|U[[:xdigit:]]{8}|[0-7]{1,3}|.)|.";
    Regex::new(&format!("(?s)({member})(?:-({member}))?")).expect("a constant")
});

/// What matches one character, in the syntax of the regex crate.
pub(super) struct Class {
    pub(super) regex: String,
    /// How many characters are in its brackets, each of which the flag `i` makes the regex crate look up.
    pub(super) listed: usize,
}

/// Translates a token that stands for one character, or says what is wrong with it.
pub(super) fn translate_class(token: &str, is_ascii: bool) -> Result<Class, &'static str> {
    let Some(inside) = token.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        let regex = if token == "." { token.to_owned() } else { translate_member(token, is_ascii)? };
        return Ok(Class { regex, listed: 0 });
    };
    let (start, inside) = inside.strip_prefix('^').map_or(("[", inside), |inside| ("[^", inside));
    let mut members = String::new();
    for member in MEMBER.captures_iter(inside) {
        let low = translate_member(&member[1], is_ascii)?;
        members.push_str(&low);
        if let Some(high) = member.get(2) {
            let high = translate_member(high.as_str(), is_ascii)?;
            if low.starts_with('[') || high.starts_with('[') {
                return Err(BAD_RANGE);
            }
            members.extend(["-", &high]);
        }
    }
    let listed = match regex_syntax::parse(&format!("[{members}]")).map_err(|_| BAD_RANGE)?.kind() {
        HirKind::Class(hir::Class::Unicode(class)) => class.iter().map(hir::ClassUnicodeRange::len).sum(),
        _ => 1,
    };
    Ok(Class { regex: format!("{start}{members}]"), listed })
}

/// Translates an escape or a character.
fn translate_member(token: &str, is_ascii: bool) -> Result<String, &'static str> {
    let Some(escape) = token.strip_prefix('\\') else { return Ok(regex::escape(token)) };
    Ok(match escape {
        "w" | "d" | "s" | "W" | "D" | "S" if !is_ascii => token.to_owned(),
        "w" => "[[:word:]]".to_owned(),
        "W" => "[^[:word:]]".to_owned(),
        "d" => "[[:digit:]]".to_owned(),
        "D" => "[^[:digit:]]".to_owned(),
        "s" => "[[:space:]]".to_owned(),
        "S" => "[^[:space:]]".to_owned(),
        "a" | "t" | "n" | "v" | "f" | "r" => token.to_owned(),
        "b" => r"\x08".to_owned(),
        "" => return Err("nothing follows the backslash"),
        "N" => return Err(r"a character by its name, \N{...}, is not supported"),
        _ if escape.starts_with(|first: char| first.is_digit(8)) => {
            let byte = u8::from_str_radix(escape, 8).map_err(|_| "the octal escape is greater than 377")?;
            format!(r"\x{byte:02x}")
        }
        _ if escape.len() > 1 && escape.is_ascii() => {
            regex_syntax::parse(token).map_err(|_| "half of a surrogate pair is not supported")?;
            token.to_owned()
        }
        _ if escape.starts_with(|letter: char| letter.is_ascii_alphanumeric()) => return Err("bad escape"),
        _ => regex::escape(escape),
    })
}
