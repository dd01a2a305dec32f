//! The tags of XML-RPC: whatever else a document has is malformed.

use super::{Error, malformed};

/// The tags of XML-RPC, those of long listings first; any other is malformed. `ex:` is how Java spells extensions.
const TAGS: &str = "value string array base64 boolean data dateTime.iso8601 double ex:i8 ex:nil fault i4 i8 int member \
    methodCall methodName methodResponse name nil param params struct";

/// The longest unknown tag in bytes that an error repeats.
const MAX_REPEATED_TAG_BYTES: usize = 32;

/// Returns the tag of XML-RPC that a foreign tag is.
pub(super) fn known_tag(tag: &str) -> Result<&'static str, Error> {
    if let Some(known) = TAGS.split(' ').find(|known| *known == tag) {
        Ok(known)
    } else if tag.len() <= MAX_REPEATED_TAG_BYTES && tag.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(malformed(format!("unknown tag <{tag}>")))
    } else {
        Err(malformed("an unknown tag"))
    }
}

/// The error for a tag where something else should be.
pub(super) fn unexpected(found: &str, expected: &str) -> Error {
    malformed(format!("<{found}> where {expected} should be"))
}
