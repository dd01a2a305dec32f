//! XML-RPC read and written without the program's own code, so that a fault of its codec cannot hide here.
//!
//! The reader takes only what a careful writer sends: well-formed, every tag closed, nothing but white space between.

use std::fmt::Write;

/// A value of XML-RPC. `Text` and `Base64` are told apart because the protocol says which one to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Base64(Vec<u8>),
    Int(i64),
    Bool(bool),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

/// A fault's code and text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) text: String,
}

/// What a call was answered with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer(pub(crate) Result<Value, Fault>);

impl Answer {
    /// Reads a whole response document.
    pub(crate) fn parse(document: &[u8]) -> Self {
        let mut reader = Reader::new(document);
        reader.declaration();
        reader.take("<methodResponse>");
        let answer = if reader.takes("<fault>") {
            let value = reader.value();
            reader.take("</fault>");
            Err(Fault::from(value))
        } else {
            reader.take("<params>");
            reader.take("<param>");
            let value = reader.value();
            reader.take("</param>");
            reader.take("</params>");
            Ok(value)
        };
        reader.take("</methodResponse>");
        reader.end();
        Self(answer)
    }

    #[track_caller]
    pub(crate) fn fault(self) -> Fault {
        self.0.expect_err("a fault was expected")
    }

    #[track_caller]
    pub(crate) fn value(self) -> Value {
        self.0.expect("a value was expected")
    }

    #[track_caller]
    pub(crate) fn assert_false(self) {
        assert_eq!(self.0, Ok(Value::Bool(false)), "the boolean `false` was expected");
    }

    /// The peers of an answer to op 0.
    #[track_caller]
    pub(crate) fn peers(self) -> Vec<String> {
        self.value().texts()
    }

    /// The names of an answer to op 1, in order of the alphabet.
    #[track_caller]
    pub(crate) fn names(self) -> Vec<String> {
        let Value::List(mut outer) = self.value() else { panic!("a listing is an array") };
        assert_eq!(outer.len(), 1, "a listing is an array that holds one array");
        let mut names = outer.remove(0).texts();
        names.sort();
        names
    }

    /// The content of an answer to op 2, however it was sent.
    #[track_caller]
    pub(crate) fn content(self) -> Vec<u8> {
        match self.value() {
            Value::Text(bytes) | Value::Base64(bytes) => bytes,
            other => panic!("{other:?} is no content"),
        }
    }
}

impl Value {
    #[track_caller]
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?} is no string"),
        }
    }

    #[track_caller]
    pub(crate) fn texts(self) -> Vec<String> {
        match self {
            Self::List(values) => values.into_iter().map(Self::text).collect(),
            other => panic!("{other:?} is no array"),
        }
    }
}

impl From<Value> for Fault {
    fn from(value: Value) -> Self {
        let Value::Struct(members) = value else { panic!("a fault is a struct, not {value:?}") };
        match <[_; 2]>::try_from(members) {
            Ok([(code_name, Value::Int(code)), (text_name, text)]) => {
                assert_eq!((&*code_name, &*text_name), ("faultCode", "faultString"));
                Self { code, text: text.text() }
            }
            other => panic!("a fault holds an int and a string, not {other:?}"),
        }
    }
}

/// The method's name and the parameters of a call.
pub(crate) fn parse_call(document: &[u8]) -> (String, Vec<Value>) {
    let mut reader = Reader::new(document);
    reader.declaration();
    reader.take("<methodCall>");
    reader.take("<methodName>");
    let method = String::from_utf8(reader.until("</methodName>").to_vec()).unwrap();
    reader.take("<params>");
    let mut params = Vec::new();
    while reader.takes("<param>") {
        params.push(reader.value());
        reader.take("</param>");
    }
    reader.take("</params>");
    reader.take("</methodCall>");
    reader.end();
    (method, params)
}

struct Reader<'a> {
    document: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(document: &'a [u8]) -> Self {
        Self { document, rest: document }
    }

    fn declaration(&mut self) {
        if self.takes("<?xml") {
            self.until("?>");
        }
    }

    /// Steps over a tag and the white space before it; says whether it was there.
    fn takes(&mut self, tag: &str) -> bool {
        let rest = self.rest.trim_ascii_start().strip_prefix(tag.as_bytes());
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take(&mut self, tag: &str) {
        if !self.takes(tag) {
            self.fail(tag);
        }
    }

    /// The bytes up to a closing tag, and steps over it.
    fn until(&mut self, tag: &str) -> &'a [u8] {
        let Some(length) = memchr::memmem::find(self.rest, tag.as_bytes()) else { self.fail(tag) };
        let bytes = &self.rest[..length];
        self.rest = &self.rest[length + tag.len()..];
        bytes
    }

    fn end(&self) {
        if !self.rest.trim_ascii().is_empty() {
            self.fail("the end");
        }
    }

    fn fail(&self, expected: &str) -> ! {
        let at = self.document.len() - self.rest.len();
        let near = String::from_utf8_lossy(&self.rest[..self.rest.len().min(200)]);
        panic!("{expected} expected at byte {at}, before {near:?}");
    }

    fn value(&mut self) -> Value {
        self.take("<value>");
        // White space inside an untyped value is content, so this looks without stepping over any.
        let value = if self.rest.starts_with(b"<") || self.rest.trim_ascii_start().starts_with(b"<string>") {
            self.typed()
        } else {
            let text = self.until("</value>");
            return Value::Text(unescaped(text));
        };
        self.take("</value>");
        value
    }

    fn typed(&mut self) -> Value {
        if self.takes("<string>") {
            Value::Text(unescaped(self.until("</string>")))
        } else if self.takes("<base64>") {
            let mut text = self.until("</base64>").to_vec();
            text.retain(|byte| !byte.is_ascii_whitespace());
            Value::Base64(base64_simd::STANDARD.decode_to_vec(text).unwrap())
        } else if self.takes("<int>") {
            Value::Int(number(self.until("</int>")))
        } else if self.takes("<i4>") {
            Value::Int(number(self.until("</i4>")))
        } else if self.takes("<boolean>") {
            Value::Bool(number(self.until("</boolean>")) == 1)
        } else if self.takes("<array>") {
            let mut values = Vec::new();
            if !self.takes("<data/>") {
                self.take("<data>");
                while !self.takes("</data>") {
                    values.push(self.value());
                }
            }
            self.take("</array>");
            Value::List(values)
        } else if self.takes("<struct>") {
            let mut members = Vec::new();
            while self.takes("<member>") {
                self.take("<name>");
                let name = String::from_utf8(self.until("</name>").to_vec()).unwrap();
                members.push((name, self.value()));
                self.take("</member>");
            }
            self.take("</struct>");
            Value::Struct(members)
        } else {
            self.fail("a typed value")
        }
    }
}

fn number(text: &[u8]) -> i64 {
    str::from_utf8(text).unwrap().trim().parse().unwrap()
}

/// The bytes that XML character data stands for.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'&', rest) {
        bytes.extend_from_slice(&rest[..at]);
        let length = memchr::memchr(b';', &rest[at..]).expect("an entity ends with a semicolon");
        let entity = str::from_utf8(&rest[at + 1..at + length]).unwrap();
        match entity {
            "amp" => bytes.push(b'&'),
            "lt" => bytes.push(b'<'),
            "gt" => bytes.push(b'>'),
            "quot" => bytes.push(b'"'),
            "apos" => bytes.push(b'\''),
            _ => {
                let code = entity.strip_prefix('#').unwrap_or_else(|| panic!("unknown entity {entity:?}"));
                let code = match code.strip_prefix('x') {
                    Some(code) => u32::from_str_radix(code, 16),
                    None => code.parse(),
                };
                let character = char::from_u32(code.unwrap()).unwrap();
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = &rest[at + length + 1..];
    }
    assert!(!rest.contains(&b'<'), "a raw < in character data");
    bytes.extend_from_slice(rest);
    bytes
}

/// Bytes as the original puts them into a document: the three entities, all else as it is.
pub(crate) fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'&' => text.extend_from_slice(b"&amp;"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'>' => text.extend_from_slice(b"&gt;"),
            _ => text.push(byte),
        }
    }
    text
}

/// The value of a string.
pub(crate) fn string(text: &str) -> String {
    format!("<value><string>{}</string></value>", String::from_utf8(escaped(text.as_bytes())).unwrap())
}

/// The value of a number.
pub(crate) fn int(number: i64) -> String {
    format!("<value><int>{number}</int></value>")
}

/// The value of an array of strings.
pub(crate) fn array<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let values: String = texts.into_iter().map(|text| string(text.as_ref())).collect();
    format!("<value><array><data>{values}</data></array></value>")
}

/// The document of a call, of values already written.
pub(crate) fn method_call(method: &str, params: &[&str]) -> String {
    let mut text = format!("<?xml version='1.0'?>\n<methodCall><methodName>{method}</methodName><params>");
    for param in params {
        write!(text, "<param>{param}</param>").unwrap();
    }
    text + "</params></methodCall>"
}

/// The document that answers with one value already written.
fn method_response(value: &[u8]) -> Vec<u8> {
    let head = b"<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n";
    let tail = b"\n</param>\n</params>\n</methodResponse>\n";
    [&head[..], value, tail].concat()
}

/// An answer to op 0.
pub(crate) fn peers_answer<T: AsRef<str>>(peers: impl IntoIterator<Item = T>) -> Vec<u8> {
    method_response(array(peers).as_bytes())
}

/// An answer to op 1, of names that may be any bytes.
pub(crate) fn names_answer<T: AsRef<[u8]>>(names: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut value = b"<value><array><data>\n<value><array><data>\n".to_vec();
    for name in names {
        value.extend_from_slice(b"<value><string>");
        value.extend_from_slice(&escaped(name.as_ref()));
        value.extend_from_slice(b"</string></value>\n");
    }
    value.extend_from_slice(b"</data></array></value>\n</data></array></value>");
    method_response(&value)
}

/// An answer to op 2 whose value is spelled `inner`, between `<value>` and `</value>`.
pub(crate) fn content_answer(inner: impl AsRef<[u8]>) -> Vec<u8> {
    method_response(&[b"<value>", inner.as_ref(), b"</value>"].concat())
}

/// An answer that is the boolean `false`.
pub(crate) fn false_answer() -> Vec<u8> {
    method_response(b"<value><boolean>0</boolean></value>")
}

/// An answer that is a fault of code 1 whose text is spelled `text`.
pub(crate) fn fault_answer(text: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
        <value><int>1</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>";
    let tail = b"</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n";
    [&head[..], text.as_ref(), tail].concat()
}
