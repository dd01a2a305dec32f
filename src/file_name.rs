//! Names of files as they come from outside.
//!
//! A [`FileName`] is safe to join to a directory: one normal component that every peer can spell in XML and that is
//! never one of our own partial downloads.

use std::{fmt, str, sync::Arc};

use crate::escape::Escaped;

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
    /// Safe to show, and so not always the name itself: that is [`FileName::as_str`].
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
