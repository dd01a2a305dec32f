//! The elements of XML-RPC and their tags.

use super::{ParseError, malformed};

/// The longest foreign tag in bytes that a message repeats.
const MAX_SHOWN_TAG_BYTES: usize = 32;

/// An element of XML-RPC; any other is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Array,
    Base64,
    Boolean,
    Data,
    Fault,
    Int,
    Member,
    MethodCall,
    MethodName,
    MethodResponse,
    Name,
    Param,
    Params,
    String,
    Struct,
    Value,
    /// A type that means nothing to peers, by its tag.
    Other(&'static str),
}

/// Each element's tag; those of long listings first, and of two spellings the usual one.
const TAGS: [(&str, Element); 23] = [
    ("value", Element::Value),
    ("string", Element::String),
    ("array", Element::Array),
    ("base64", Element::Base64),
    ("boolean", Element::Boolean),
    ("data", Element::Data),
    ("fault", Element::Fault),
    ("int", Element::Int),
    ("i4", Element::Int),
    ("member", Element::Member),
    ("methodCall", Element::MethodCall),
    ("methodName", Element::MethodName),
    ("methodResponse", Element::MethodResponse),
    ("name", Element::Name),
    ("param", Element::Param),
    ("params", Element::Params),
    ("struct", Element::Struct),
    ("dateTime.iso8601", Element::Other("dateTime.iso8601")),
    ("double", Element::Other("double")),
    ("i8", Element::Other("i8")),
    ("ex:i8", Element::Other("i8")),
    ("nil", Element::Other("nil")),
    ("ex:nil", Element::Other("nil")),
];

impl Element {
    /// The element of a foreign tag.
    pub(super) fn from_tag(tag: &str) -> Result<Self, ParseError> {
        let known = TAGS.iter().find(|(known, _)| *known == tag);
        known.map(|(_, element)| *element).ok_or_else(|| unknown(tag))
    }

    /// The tag.
    pub(super) fn tag(self) -> &'static str {
        TAGS.iter().find(|(_, element)| *element == self).expect("every element has a tag").0
    }

    /// The error for this element where another should be.
    pub(super) fn instead_of(self, expected: &str) -> ParseError {
        malformed(format!("<{}> where {expected} should be", self.tag()))
    }
}

/// The error for a document that seems to be UTF-16 or UTF-32.
pub(super) fn wide_characters() -> ParseError {
    malformed("it looks like UTF-16, but only UTF-8 is read")
}

fn unknown(tag: &str) -> ParseError {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_".contains(&byte);
    if tag.contains('\0') {
        wide_characters()
    } else if tag.len() <= MAX_SHOWN_TAG_BYTES && tag.bytes().all(is_plain) {
        malformed(format!("unknown tag <{tag}>"))
    } else {
        // Repeated, it could steer a terminal.
        malformed("an unknown tag")
    }
}
