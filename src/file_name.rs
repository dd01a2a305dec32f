//! File names as they come from outside.
//!
//! A [`FileName`] is safe to join to a directory: one normal component that every peer can spell in XML and that is
//! never one of our own partial downloads.

use std::{fmt, str, sync::Arc};

use crate::escape::Escaped;

/// The prefix of the names of partial downloads; such files are never listed, sent or saved.
pub(crate) const PARTIAL_PREFIX: &str = ".tinyp2p-";

/// The suffix of the names of partial downloads.
pub(crate) const PARTIAL_SUFFIX: &str = ".part";

/// The longest name in bytes: the limit of nearly every file system.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A file name that can be saved here and sent anywhere. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileName(Arc<str>);

impl FileName {
    /// Parses a name from bytes, because neither file systems nor the original's listings promise UTF-8.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidFileName> {
        if bytes.len() > MAX_NAME_BYTES {
            return Err(InvalidFileName::TooLong);
        }
        let name = str::from_utf8(bytes).map_err(|_| InvalidFileName::NotUtf8)?;
        if name.is_empty() {
            return Err(InvalidFileName::Empty);
        }
        if name == "." || name == ".." {
            return Err(InvalidFileName::Dots);
        }
        if name.contains(['/', '\\']) {
            return Err(InvalidFileName::Separator);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidFileName::Control);
        }
        if name.contains(['\u{fffe}', '\u{ffff}']) {
            return Err(InvalidFileName::IllegalInXml);
        }
        if is_partial(name) {
            return Err(InvalidFileName::Partial);
        }
        Ok(Self(name.into()))
    }

    /// Returns the name itself, which is not always safe to print.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name is that of a partial download.
pub(crate) fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_PREFIX) && name.ends_with(PARTIAL_SUFFIX)
}

/// Why a name is refused. The text completes "NAME is refused: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidFileName {
    Empty,
    TooLong,
    NotUtf8,
    Dots,
    Separator,
    Control,
    IllegalInXml,
    Partial,
}

impl fmt::Display for InvalidFileName {
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

impl fmt::Display for FileName {
    /// Writes the name made safe to print, which is not always the name itself: that is [`FileName::as_str`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
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
            (&b""[..], InvalidFileName::Empty),
            (b".", InvalidFileName::Dots),
            (b"..", InvalidFileName::Dots),
            (b"../x", InvalidFileName::Separator),
            (b"/etc/passwd", InvalidFileName::Separator),
            (b"a\\b", InvalidFileName::Separator),
            (b"a\nb", InvalidFileName::Control),
            (b"a\x1b[2J", InvalidFileName::Control),
            (b"a\x7f", InvalidFileName::Control),
            ("a\u{9b}".as_bytes(), InvalidFileName::Control),
            (b"a\0", InvalidFileName::Control),
            (b"caf\xe9", InvalidFileName::NotUtf8),
            ("\u{fffe}".as_bytes(), InvalidFileName::IllegalInXml),
            (b".tinyp2p-abc.part", InvalidFileName::Partial),
            (&[b'x'; 256], InvalidFileName::TooLong),
        ] {
            assert_eq!(FileName::from_bytes(name), Err(why), "{name:?}");
        }
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

    }
}
