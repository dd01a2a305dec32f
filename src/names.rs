//! Names of files as they come from outside, and how any text from outside is shown to a person.
//!
//! A [`FileName`] is safe to join to a directory: one normal component that every peer can spell in XML and that is
//! never one of our own partial downloads. [`Shown`] is the only way foreign text reaches a terminal or a log.

use std::{fmt, str, sync::Arc};

/// How the name of a partial download begins; such names are never listed, fetched or saved.
pub(crate) const PARTIAL_PREFIX: &str = ".tinyp2p-";

/// How the name of a partial download ends.
pub(crate) const PARTIAL_SUFFIX: &str = ".part";

/// The longest name in bytes; what nearly every file system takes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A file name that can be saved here and sent anywhere. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileName(Arc<str>);

impl FileName {
    /// Checks a name that arrived as bytes: file systems and the original's listings promise no UTF-8.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BadName> {
        if bytes.len() > MAX_NAME_BYTES {
            return Err(BadName::TooLong);
        }
        let name = str::from_utf8(bytes).map_err(|_| BadName::NotUtf8)?;
        if name.is_empty() {
            return Err(BadName::Empty);
        }
        if name == "." || name == ".." {
            return Err(BadName::Dots);
        }
        if name.contains(['/', '\\']) {
            return Err(BadName::Separator);
        }
        if name.chars().any(char::is_control) {
            return Err(BadName::Control);
        }
        if name.contains(['\u{fffe}', '\u{ffff}']) {
            return Err(BadName::IllegalInXml);
        }
        if is_partial(name) {
            return Err(BadName::Partial);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name is one that we give to partial downloads.
pub(crate) fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_PREFIX) && name.ends_with(PARTIAL_SUFFIX)
}

/// Why a name is refused. The text completes "NAME is refused: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadName {
    Empty,
    TooLong,
    NotUtf8,
    Dots,
    Separator,
    Control,
    IllegalInXml,
    Partial,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 255 bytes",
            Self::NotUtf8 => "it is not UTF-8",
            Self::Dots => "it names a directory",
            Self::Separator => "it holds a path separator",
            Self::Control => "it holds a control character",
            Self::IllegalInXml => "it holds a character that XML cannot",
            Self::Partial => "it is the name of a partial download",
        })
    }
}

/// The most characters of one foreign text that are shown.
const MAX_SHOWN_CHARS: usize = 300;

/// Foreign text made safe for one line of a terminal or a log: control characters, format characters (bidirectional
/// overrides among them) and line ends appear as escapes, and a text of over 300 characters is cut with an ellipsis.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for (count, character) in self.0.chars().enumerate() {
            if count == MAX_SHOWN_CHARS {
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

impl fmt::Display for FileName {
    /// Safe to show, and so not always the name itself: that is [`FileName::as_str`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

/// Characters of the Unicode category Cf, which are invisible or reorder what stands around them, and the two
/// separators that some terminals take for line ends.
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
    fn ordinary_and_awkward_names_pass() {
        for name in [
            "a",
            ".hidden",
            "-rf",
            "...",
            "a b",
            "~",
            "naïve",
            "日本",
            "a:b",
            "*",
            "%41",
            "\u{202e}x",
            "'",
            "\"",
            "&<>",
        ] {
            assert_eq!(FileName::from_bytes(name.as_bytes()).unwrap().as_str(), name);
        }
        assert!(FileName::from_bytes(&[b'x'; 255]).is_ok());
    }

    #[test]
    fn names_that_could_do_harm_are_refused() {
        for (name, why) in [
            (&b""[..], BadName::Empty),
            (b".", BadName::Dots),
            (b"..", BadName::Dots),
            (b"../x", BadName::Separator),
            (b"/etc/passwd", BadName::Separator),
            (b"a\\b", BadName::Separator),
            (b"a\nb", BadName::Control),
            (b"a\x1b[2J", BadName::Control),
            (b"a\x7f", BadName::Control),
            ("a\u{9b}".as_bytes(), BadName::Control),
            (b"a\0", BadName::Control),
            (b"caf\xe9", BadName::NotUtf8),
            ("\u{fffe}".as_bytes(), BadName::IllegalInXml),
            (b".tinyp2p-abc.part", BadName::Partial),
            (&[b'x'; 256], BadName::TooLong),
        ] {
            assert_eq!(FileName::from_bytes(name), Err(why), "{name:?}");
        }
    }

    #[test]
    fn what_is_shown_cannot_steer_a_terminal() {
        assert_eq!(Shown("a\x1b[2J\u{202e}\r\n\u{9b}ü").to_string(), r"a\u{1b}[2J\u{202e}\r\n\u{9b}ü");
        assert_eq!(Shown(&"x".repeat(301)).to_string(), format!("{}…", "x".repeat(300)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_safe_name_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = FileName::from_bytes(&bytes) {
                let mut parts = std::path::Path::new(name.as_str()).components();
                prop_assert!(matches!(parts.next(), Some(std::path::Component::Normal(_))));
                prop_assert!(parts.next().is_none());
                prop_assert!(!name.to_string().chars().any(char::is_control));
            }
        }

        #[test]
        fn shown_text_holds_no_control_characters(text in any::<String>()) {
            prop_assert!(!Shown(&text).to_string().chars().any(|c| c.is_control() || is_format(c)));
        }
    }
}
