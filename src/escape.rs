//! Makes text from outside safe to print.
//!
//! [`Escaped`] is the only way in which such text reaches a terminal or a log: it writes neither control characters nor
//! characters that reorder what stands around them.

use std::fmt;

/// The most characters of one text that are written.
const MAX_CHARS: usize = 300;

/// Text from outside, written so that it is safe on one line of a terminal or a log: control characters, format
/// characters (bidirectional overrides among them) and line ends become escapes, and after 300 characters comes an
/// ellipsis.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for (count, character) in self.0.chars().enumerate() {
            if count == MAX_CHARS {
                return f.write_char('…');
            }
            if character.is_control() || is_format(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Whether a character is of the Unicode category Cf, which are invisible or reorder what stands around them, or one of
/// the two separators that some terminals take for line ends.
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escaped_text_cannot_steer_a_terminal() {
        assert_eq!(Escaped("a\x1b[2J\u{202e}\r\n\u{9b}ü").to_string(), r"a\u{1b}[2J\u{202e}\r\n\u{9b}ü");
        assert_eq!(Escaped(&"x".repeat(301)).to_string(), format!("{}…", "x".repeat(300)));
    }

    proptest! {
        #[test]
        fn escaped_text_holds_no_control_characters(text in any::<String>()) {
            prop_assert!(!Escaped(&text).to_string().chars().any(|c| c.is_control() || is_format(c)));
        }
    }
}
