//! What a reader takes, and what it refuses.

use super::*;

#[test]
fn values_are_read_in_every_spelling_that_other_libraries_have() {
    let array = |values: &[Value]| Value::Array(values.to_vec());
    for (given, value) in [
        ("<int>5</int>", Value::Int(5)),
        ("<i4>-2147483648</i4>", Value::Int(i32::MIN)),
        ("\r\n\t<!-- x --><int a='1' a='1'> +007\n</int > <?pi?> ", Value::Int(7)),
        ("<int><![CDATA[1]]>&#50;<!--x-->3</int>", Value::Int(123)),
        ("<string>a</string>", "a".into()),
        (" <string> a\r\n</string> ", " a\r\n".into()),
        ("<string/>", "".into()),
        ("", "".into()),
        (" a&lt;b ", " a<b ".into()),
        (" \n ", " \n ".into()),
        (" <!--x--> ", "  ".into()),
        ("<!--x--><int>1</int><!--x-->", Value::Int(1)),
        (" <![CDATA[<a>&amp;]]]]><![CDATA[>]]>", " <a>&amp;]]>".into()),
        ("&#x20;", " ".into()),
        ("<![CDATA[]]>", "".into()),
        ("<string>&amp;&lt;&gt;&quot;&apos;&#9;&#x0A;&#000065;&#x1F600;</string>", "&<>\"'\t\nA😀".into()),
        ("<string>]]> ; > ' \" </string>", "]]> ; > ' \" ".into()),
        ("<string>&#1;&#127;&#xFFFF;</string>", "\u{1}\u{7f}\u{ffff}".into()),
        ("<array><data/></array>", array(&[])),
        ("<array> <data> <value/> <value><int>1</int></value> </data> </array>", array(&["".into(), Value::Int(1)])),
        ("<array><data><value><array><data><value/></data></array></value></data></array>", array(&[Value::Other])),
        ("<base64>\n aG\tVs\r\nbG8=\n</base64>", Value::Other),
        ("<boolean> 0 </boolean>", Value::Other),
        ("<struct/>", Value::Other),
        ("<struct><member><name>a</name><value>b</value></member></struct>", Value::Other),
        ("<nil/>", Value::Other),
        ("<ex:nil></ex:nil>", Value::Other),
        ("<double>1.5</double>", Value::Other),
        ("<i8>99999999999</i8>", Value::Other),
        ("<dateTime.iso8601>20040101T00:00:00</dateTime.iso8601>", Value::Other),
    ] {
        assert_eq!(param(given).as_ref(), Ok(&value), "{given}");
    }
    let latin: Vec<u8> =
        call("<value>caf?</value>").iter().map(|byte| if *byte == b'?' { 0xe9 } else { *byte }).collect();
    assert_eq!(read_call(&latin).unwrap().params, [Value::String(b"caf\xe9".to_vec())]);
}

#[test]
fn malformed_values_are_refused() {
    for (given, reason) in [
        ("<int>2147483648</int>", "an <int> that is no 32-bit integer"),
        ("<int/>", "an <int> that is no 32-bit integer"),
        ("<i4>1 2</i4>", "an <int> that is no 32-bit integer"),
        ("<string>a<b/></string>", "unknown tag <b>"),
        ("<string>a<int>1</int></string>", "<int> inside text"),
        ("a<int>1</int>", "<int> inside text"),
        ("&#32;<int>1</int>", "<int> inside text"),
        ("<![CDATA[]]><int>1</int>", "<int> inside text"),
        ("<int>1</int>a", "text where a tag should be"),
        ("<int>1</int>&#32;", "text where a tag should be"),
        ("<int>1</int><![CDATA[ ]]>", "text where a tag should be"),
        ("<int>1</int><int>1</int>", "<int> where an element should end"),
        ("<string>a</value></string>", "a closing tag that closes nothing"),
        ("<struct>a</value></struct>", "a closing tag that closes nothing"),
        ("<int>1</i4>", "a closing tag that closes nothing"),
        ("<param/>", "<param> where a type should be"),
        ("<array/>", "an element ends where <data> should be"),
        ("<array><data><int>1</int></data></array>", "<int> where <value> should be"),
        ("<array><data/><data/></array>", "<data> where an element should end"),
        ("<string>&nbsp;</string>", "an entity that XML does not define"),
        ("<string>&am<!---->p;</string>", "an & that begins no reference"),
        ("<string>&#0;</string>", "a reference to a character that does not exist"),
        ("<string>a & b</string>", "an & that begins no reference"),
        ("<string>&#000000000000000000000000000000065;</string>", "an & that begins no reference"),
        ("<string><?xml version='1.0'?></string>", "an XML declaration inside the document"),
        ("<!DOCTYPE a>", "a document type declaration"),
        ("<\x1b[2J>", "an unknown tag"),
    ] {
        assert_eq!(param(given), Err(reason.to_owned()), "{given}");
    }
    assert!(read_call(&call("")).is_err() && read_call(&call("<value/><value/>")).is_err());
}

#[test]
fn base64_is_decoded_or_refused() {
    for (given, bytes) in [
        ("<base64>aGk=</base64>", Some("hi")),
        ("<base64>\n aG\tVs\r\nbG8=\n</base64>", Some("hello")),
        ("<base64>aGVs&#13;\nbG8=&#13;\n</base64>", Some("hello")),
        ("<base64><![CDATA[aGk=]]></base64>", Some("hi")),
        ("<base64/>", Some("")),
        ("<base64>aGk</base64>", None),
        ("<base64>aGk=aGk=</base64>", None),
        ("<base64>====</base64>", None),
        ("<base64>aG\u{a0}k</base64>", None),
    ] {
        let content = content_of(&answer(&format!("<value>{given}</value>"))[..]);
        let expected = bytes.map(|bytes| bytes.as_bytes().to_vec()).ok_or("broken base64".to_owned());
        assert_eq!(content, expected, "{given}");
    }
}

#[test]
fn a_call_may_lack_parameters_and_have_much_around_it() {
    let with = |params: &str| format!("<methodCall><methodName> f </methodName>{params}</methodCall>");
    let call = Call { method: "f".into(), params: vec![] };
    for document in [
        with(""),
        with("<params/>"),
        with("<params>\n</params>"),
        format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\" standalone='yes'?>{}", with("")),
        format!("\n<!-- - -> -->{}\n<!-- x --><?x?>\n", with("<!-- x --><params>  <?x ?> </params>")),
    ] {
        assert_eq!(read_call(document.as_bytes()).map_err(|error| error.to_string()), Ok(call.clone()), "{document}");
    }
}

#[test]
fn what_is_no_xml_rpc_is_named_so() {
    for (document, reason) in [
        (&b""[..], "the document is cut short"),
        (b" \n", "the document is cut short"),
        (b"It works!", "text where a tag should be"),
        (b"\x1f\x8b\x08", "text where a tag should be"),
        (b"\xef\xbbx", "text where a tag should be"),
        (b"<html><body>It works!</body></html>", "unknown tag <html>"),
        (b"<!DOCTYPE html><html>", "a document type declaration"),
        (b"<!doctype", "markup that is broken or cut short"),
        (b"<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><methodResponse/>", "a document type declaration"),
        (b"<array/>", "<array> where <methodResponse> should be"),
        (b"</methodResponse>", "a closing tag that closes nothing"),
        (b"<![CDATA[x]]>", "text where a tag should be"),
        (b"<!x>", "markup that is broken or cut short"),
        (b"<!--\xff-->", "markup that is broken or cut short"),
        (b"\xff\xfe<\0?\0", "text where a tag should be"),
        (b"<\0m\0>\0", "an unknown tag"),
    ] {
        let expected = format!("not an XML-RPC response: {reason}");
        assert_eq!(content_of(document), Err(expected.clone()), "{document:?}");
        assert_eq!(strings_of(document, 1), Err(expected));
    }
    let error = read_call(response("peers")).unwrap_err().to_string();
    assert_eq!(error, "not an XML-RPC call: <methodResponse> where <methodCall> should be");
}

#[test]
fn an_answer_is_one_value_and_nothing_more() {
    for document in [
        "<methodResponse></methodResponse>",
        "<methodResponse><params/></methodResponse>",
        "<methodResponse><params><param/></params></methodResponse>",
        "<methodResponse><params><param><value/><value/></param></params></methodResponse>",
        "<methodResponse><params><param><value/></param><param><value/></param></params></methodResponse>",
        "<methodResponse><params><param><value/></param></params><params/></methodResponse>",
        "<methodResponse><params><param><value/></param></params></methodResponse>x",
        "<methodResponse><params><param><value/></param></params></methodResponse><methodResponse/>",
        "<methodResponse><params><param><value/></param></params></methodResponse></methodResponse>",
        "<methodResponse><params><param><value/></param></params></methodResponse><![CDATA[]]>",
        "<methodResponse><params><param><value/></param></params></methodResponse><",
        "<methodResponse><fault/></methodResponse>",
        "<methodResponse><fault><value/></fault></methodResponse>",
        "<methodResponse><fault><value><struct/></value></fault></methodResponse>",
    ] {
        assert!(content_of(document.as_bytes()).is_err(), "{document}");
    }
    for value in ["<int>1</int>", "<nil/>", "<double>1</double>", "<array><data/></array>", "<struct/>"] {
        let document = answer(&format!("<value>{value}</value>"));
        assert!(content_of(&document[..]).is_err(), "{value} as content");
    }
    for value in [
        "",
        "x",
        "<string>x</string>",
        "<base64/>",
        "<nil/>",
        "<array><data><value><int>1</int></value></data></array>",
        "<array><data><value><nil/></value></data></array>",
        "<array><data><value><array><data/></array></value></data></array>",
    ] {
        let document = answer(&format!("<value>{value}</value>"));
        assert!(strings_of(&document[..], 1).is_err(), "{value} as a peer list");
    }
    for value in [
        "<array><data/></array>",
        "<array><data><value/></data></array>",
        "<array><data><value><array><data/></array></value><value><array><data/></array></value></data></array>",
    ] {
        let document = answer(&format!("<value>{value}</value>"));
        assert!(strings_of(&document[..], 2).is_err(), "{value} as a listing");
    }
}

#[test]
fn strings_come_in_any_encoding_and_spelling() {
    let document = [
        &b"<methodResponse><params><param><value><array><data><value>\n<string>caf\xe9</string></value><value>b\x1b\0"
            [..],
        b"</value><value/><value>&#233;<![CDATA[<]]></value></data></array></value></param></params></methodResponse>",
    ]
    .concat();
    let strings = vec![b"caf\xe9".to_vec(), b"b\x1b\0".to_vec(), vec![], "\u{e9}<".into()];
    assert_eq!(strings_of(&document[..], 1), Ok(strings));
}

#[test]
fn of_an_endless_string_only_the_beginning_is_kept() {
    let long = "x".repeat(200_000);
    let document = write_strings(1, ["a", &long, "b"]);
    let strings = strings_of(&document[..], 1).unwrap();
    assert_eq!(strings.iter().map(Vec::len).collect::<Vec<_>>(), [1, 4 * 1024, 1]);
    assert_eq!(fault_of(&write_fault(&Fault { code: 1, text: long })).text.len(), 4 * 1024);
}

#[test]
fn the_caller_can_end_the_reading_of_strings() {
    let document = write_strings(2, (0..10).map(|number| number.to_string()));
    let mut count = 0;
    let result = read_strings(&document[..], 2, LIMIT, |_| {
        count += 1;
        if count > 3 { Err(malformed("enough")) } else { Ok(()) }
    });
    assert_eq!((result.unwrap_err().to_string().as_str(), count), ("enough", 4));
}

#[test]
fn faults_have_their_members_in_any_order_among_others() {
    let document = |members: &str| {
        format!("<methodResponse><fault><value><struct>{members}</struct></value></fault></methodResponse>")
    };
    let code = "<member><name>faultCode</name><value><i4>-7</i4></value></member>";
    let string = "<member><name>faultString</name><value>a&#27;b</value></member>";
    let other = "<member><name>x</name><value><array><data><value><nil/></value></data></array></value></member>";
    for members in [[code, string, other].concat(), [other, string, code].concat()] {
        let fault = Fault { code: -7, text: "a\u{1b}b".into() };
        assert_eq!(fault_of(document(&members).as_bytes()), fault);
    }
    let nil = "<member><name>faultString</name><value><nil/></value></member>";
    for members in [code, string, "", &[code, nil].concat()] {
        let error = content_of(document(members).as_bytes()).unwrap_err();
        assert_eq!(error, "a fault without faultCode or faultString", "{members}");
    }
    let members = [code, "<member><name>faultString</name><value>?</value></member>"].concat();
    let latin: Vec<u8> = document(&members).bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    assert_eq!(fault_of(&latin), Fault { code: -7, text: "\u{fffd}".into() });
}

#[test]
fn white_space_before_a_type_is_held_back_only_so_far() {
    for (spaces, is_text) in [(0, false), (4 * 1024, false), (4 * 1024 + 1, true)] {
        let space = " ".repeat(spaces);
        for step in [1000, usize::MAX] {
            let document = answer(&format!("<value>{space}<string>x</string></value>"));
            let result = content_of(ChunkedReader::new(&document, step));
            let expected = if is_text { Err("<string> inside text".into()) } else { Ok(b"x".to_vec()) };
            assert_eq!(result, expected, "{spaces}");
            let document = answer(&format!("<value>{space}</value>"));
            let result = content_of(ChunkedReader::new(&document, step));
            assert_eq!(result, Ok(space.clone().into_bytes()));
        }
    }
}

#[test]
fn answers_are_read_in_the_layout_of_other_libraries() {
    let python =
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n%</param>\n</params>\n</methodResponse>\n";
    let ruby = "<?xml version=\"1.0\" ?><methodResponse><params><param>%</param></params></methodResponse>";
    let java = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?><methodResponse xmlns:ex=\"http://ws.apache.org/xmlrpc/\
                namespaces/extensions\"><params><param>%</param></params></methodResponse>\r\n";
    let indented = "<!-- served --><?xml version=\"1.0\"?>\n<methodResponse>\n  <params>\n    <param>\n      %\n    \
                    </param>\n  </params>\n</methodResponse>\n<!-- in 1 ms -->\n";
    for layout in [python, ruby, java, indented] {
        for (value, content) in [
            ("<value><string>a &amp; b\r\n</string></value>\n", "a & b\r\n"),
            ("<value>\n  <string/>\n</value>", ""),
            ("<value> a&#32;b </value>", " a b "),
            ("<value/>", ""),
            ("<value><base64>\naGVs\nbG8=\n</base64></value>\n", "hello"),
            ("<value>\n\t<base64>\n\t\taGVsbG8=\r\n\t</base64>\r\n</value>", "hello"),
            ("<value><base64></base64></value>", ""),
        ] {
            let document = layout.replace('%', value);
            let expected = Ok(content.as_bytes().to_vec());
            for step in [1, 2, 3, usize::MAX] {
                assert_eq!(content_of(ChunkedReader::new(document.as_bytes(), step)), expected, "{document}");
            }
        }
        let names = "<value><array><data><value>a</value>\n<value> <string>b</string></value></data></array></value>";
        let listing = layout.replace('%', &format!("<value><array> <data>{names} </data></array>\n</value>"));
        let expected = Ok(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(strings_of(listing.as_bytes(), 2), expected, "{listing}");
    }
}

#[test]
fn nothing_may_follow_the_padding_of_base64_however_far_it_is() {
    let piece = "QUJD".repeat(CHUNK_BYTES / 4 - 1);
    for (base64, is_whole) in [
        (format!("{piece}QQ=="), true),
        (format!("{piece}QQ=={piece}"), false),
        (format!("{piece}QQ==QQ=="), false),
        (format!("{piece}QQ={piece}"), false),
        (format!("{piece}{piece}\nQUI=\n"), true),
        (format!("{piece}{piece}QUI"), false),
    ] {
        for step in [1000, CHUNK_BYTES, usize::MAX] {
            let document = answer(&format!("<value><base64>{base64}</base64></value>"));
            assert_eq!(content_of(ChunkedReader::new(&document, step)).is_ok(), is_whole);
        }
    }
}
