//! What a server says to raw bytes: HTTP and XML-RPC as strangers write them, well and badly, and the exchanges that
//! were recorded from the original.

use std::{
    fs::{self, File, FileTimes},
    path::PathBuf,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::harness::{
    Answer, Connection, Dir, Fault, PASSWORD, Server, Value, array, call, call_for, int, method_call, post, proof,
    serve, string,
};

/// The URL and the password of the server that the exchanges were recorded from.
const RECORDED_URL: &str = "http://127.0.0.1:33330";
const RECORDED_PASSWORD: &str = "123456";

/// The files that the recorded server shared. The content of `file1` was not recorded.
fn recorded_files() -> Dir {
    let every_byte: Vec<u8> = (0..=255).collect();
    Dir::with([
        ("file0", &b"hello <b> & world\n"[..]),
        ("file1", b"another\n"),
        ("crlf.txt", b"a\r\nb\rc\n"),
        ("empty", b""),
        ("utf8.txt", "caf\u{e9}\n".as_bytes()),
        ("bin.dat", &every_byte),
    ])
}

fn recorded(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/wire")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Repeats a recorded request, its proof and URL exchanged for those of `server`.
#[track_caller]
fn replay(server: &Server, name: &str) -> Answer {
    let request = recorded(&format!("{name}.request.xml"));
    let url = server.url();
    let request = request
        .replace(&proof(RECORDED_PASSWORD, RECORDED_URL), &proof(RECORDED_PASSWORD, url))
        .replace(RECORDED_URL, url);
    post(url, request).answer()
}

/// What the original answered, its URL exchanged for that of `server`.
fn recorded_answer(server: &Server, name: &str) -> Answer {
    let path = format!("{}/tests/integration/wire/{name}.response.xml", env!("CARGO_MANIFEST_DIR"));
    let mut response = fs::read(path).unwrap();
    if let Ok(text) = str::from_utf8(&response) {
        response = text.replace(RECORDED_URL, server.url()).into_bytes();
    }
    Answer::parse(&response)
}

#[test]
fn recorded_calls_are_answered_as_the_original_did() {
    let dir = recorded_files();
    let server = serve(&dir).password(RECORDED_PASSWORD).start();
    for name in ["peers", "wrong-password", "peers-merge"] {
        assert_eq!(replay(&server, name), recorded_answer(&server, name), "{name}");
    }
    for name in ["list-all", "list-none", "list-pattern"] {
        assert_eq!(replay(&server, name).names(), recorded_answer(&server, name).names(), "{name}");
    }
    for name in ["fetch-text", "fetch-empty", "fetch-utf8"] {
        assert_eq!(replay(&server, name), recorded_answer(&server, name), "{name}");
    }
    // The same bytes in another spelling, which every XML parser takes.
    for name in ["fetch-crlf", "fetch-binary"] {
        assert_eq!(replay(&server, name).content(), recorded_answer(&server, name).content(), "{name}");
    }
    // The original's words are Python's; only the code is the same.
    for name in ["fetch-missing", "list-bad-pattern"] {
        let (ours, theirs) = (replay(&server, name).fault(), recorded_answer(&server, name).fault());
        assert_eq!(ours.code, theirs.code, "{name}");
        assert!(ours.text.len() > 5, "{name}: {ours:?}");
    }
}

#[test]
fn both_paths_take_calls() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    for path in ["/", "/RPC2"] {
        let mut connection = Connection::open(server.url());
        connection.post(path, call_for(PASSWORD, server.url(), 0, &array([""; 0])));
        assert_eq!(connection.response().answer().peers(), [server.url()], "{path}");
    }
}

#[test]
fn the_number_of_parameters_is_checked_before_the_proof() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let (right, op, arg) = (string(&proof(PASSWORD, server.url())), int(0), array([""; 0]));
    let (right, op, arg) = (&*right, &*op, &*arg);
    let wrong = "<value><string>wrong</string></value>";
    for params in
        [&[][..], &[right], &[wrong], &[right, op], &[wrong, op], &[right, op, arg, arg], &[wrong, op, arg, arg]]
    {
        let fault = post(server.url(), method_call("f", params)).answer().fault();
        assert!(fault.text.contains('3') || fault.text.contains("three"), "{params:?}: {fault:?}");
    }
}

#[test]
fn a_wrong_proof_is_false_whatever_else_is_wrong() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let url = server.url();
    let right = proof(PASSWORD, url);
    let spelled_otherwise = url.replace("127.0.0.1", "localhost");
    let wrong_proofs = [
        string(""),
        string("wrong"),
        string(&proof("another", url)),
        string(&proof("", url)),
        string(&right.to_uppercase()),
        string(&right[..31]),
        string(&format!("{right}0")),
        string(&format!(" {right}")),
        string(&proof(PASSWORD, &format!("{url}/"))),
        string(&proof(PASSWORD, &spelled_otherwise)),
        int(0),
        array([right.as_str()]),
        "<value><boolean>1</boolean></value>".to_owned(),
        "<value><double>1.5</double></value>".to_owned(),
        "<value><struct></struct></value>".to_owned(),
    ];
    for wrong in &wrong_proofs {
        post(url, method_call("f", &[wrong, &int(0), &array([""; 0])])).answer().assert_false();
    }
    for (op, arg) in [
        (int(0), string("no array")),
        (int(1), string("(")),
        (int(1), int(1)),
        (int(2), string("no such file")),
        (int(2), string("file0")),
        (int(2), string("../x")),
        (string("0"), array([""; 0])),
        (array([""; 0]), array([""; 0])),
        ("<value><boolean>1</boolean></value>".to_owned(), string("")),
    ] {
        post(url, method_call("f", &[&wrong_proofs[1], &op, &arg])).answer().assert_false();
    }
}

#[test]
fn wrong_types_are_faults_after_a_right_proof() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let right = string(&proof(PASSWORD, server.url()));
    for (op, arg) in [
        (string("0"), array([""; 0])),
        ("<value>1</value>".to_owned(), string("")),
        ("<value><boolean>1</boolean></value>".to_owned(), string("")),
        ("<value><double>2.0</double></value>".to_owned(), string("file0")),
        (array(["2"]), string("file0")),
        (int(0), string("http://127.0.0.1:1")),
        (int(0), int(0)),
        (int(1), int(1)),
        (int(2), int(2)),
        (int(2), array(["file0"])),
    ] {
        let fault = post(server.url(), method_call("f", &[&right, &op, &arg])).answer().fault();
        assert!(!fault.text.is_empty(), "{op} {arg}");
    }
}

#[test]
fn any_other_number_is_a_fetch_and_i4_is_a_number() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    for op in [2, 3, -1, 7, 2_147_483_647, -2_147_483_648] {
        assert_eq!(call(server.url(), op, &string("file1")).content(), b"another\n", "{op}");
    }
    let right = string(&proof(PASSWORD, server.url()));
    let i4 = |number: i32| format!("<value><i4>{number}</i4></value>");
    let answer = |op: i32, arg: &str| post(server.url(), method_call("f", &[&right, &i4(op), arg])).answer();
    assert_eq!(answer(0, &array([""; 0])).peers(), [server.url()]);
    assert_eq!(answer(1, &string("file")).names(), ["file0", "file1"]);
    assert_eq!(answer(5, &string("file1")).content(), b"another\n");
}

#[test]
fn merging_keeps_order_names_none_twice_and_skips_what_is_no_url() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let (own, b, a) = (server.url(), "http://127.0.0.1:2", "http://127.0.0.1:1");
    assert_eq!(call(own, 0, &array([""; 0])).peers(), [own]);
    assert_eq!(call(own, 0, &array([b, "nonsense", a, own, b, "", "ftp://c:1", "\u{202e}"])).peers(), [own, b, a]);
    let slash = format!("{a}/");
    assert_eq!(call(own, 0, &array([slash.as_str()])).peers(), [own, b, a]);
    assert_eq!(call(own, 0, &array([""; 0])).peers(), [own, b, a]);
}

#[test]
fn calls_in_the_spellings_of_other_libraries_are_understood() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let token = proof(PASSWORD, server.url());
    let peers = |document: String| assert_eq!(post(server.url(), document).answer().peers(), [server.url()]);
    // Perl, with no white space and an empty element; Ruby, with much; Python 3 with a declaration of double quotes.
    peers(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><methodCall><methodName>f</methodName><params><param><value><string>\
         {token}</string></value></param><param><value><i4>0</i4></value></param><param><value><array><data/></array>\
         </value></param></params></methodCall>"
    ));
    peers(format!(
        "<?xml version=\"1.0\" ?>\r\n\r\n<methodCall>\r\n\t<methodName>f</methodName>\r\n\t<params>\r\n\t\t<param>\r\n\
         \t\t\t<value>{token}</value>\r\n\t\t</param>\r\n<param><value> <int>0</int> </value></param><param><value>\r\n\
         <array>\r\n<data>\r\n</data>\r\n</array>\r\n</value></param>\r\n\t</params>\r\n</methodCall>\r\n\r\n"
    ));
    peers(format!(
        "<!-- a comment --><methodCall ><methodName >f</methodName ><params><param><value><string><![CDATA[{token}]]>\
         </string></value></param><!-- another --><param><value><int>+0</int></value></param><param><value><array>\
         <data></data></array></value></param></params></methodCall>"
    ));
    let name = "<value><string>&#102;ile&#x31;</string></value>";
    assert_eq!(call(server.url(), 2, name).content(), b"another\n");
    assert_eq!(call(server.url(), 2, "<value>file1</value>").content(), b"another\n");
    assert_eq!(call(server.url(), 1, "<value></value>").names().len(), 6);
    assert_eq!(call(server.url(), 1, "<value/>").names().len(), 6);
    assert_eq!(call(server.url(), 1, "<value><string/></value>").names().len(), 6);
}

#[test]
fn broken_documents_and_other_methods_are_faults_that_say_what_is_wrong() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let good = call_for(PASSWORD, server.url(), 0, &array([""; 0]));
    let fault = |document: &[u8]| -> Fault { post(server.url(), document).answer().fault() };
    for broken in [
        String::new(),
        "not XML".to_owned(),
        "<".to_owned(),
        "<methodCall>".to_owned(),
        good[..good.len() - 1].to_owned(),
        good[..good.len() / 2].to_owned(),
        good.clone() + "<more/>",
        good.replace("</param>", "</parm>"),
        good.replace("<methodCall>", "<!DOCTYPE x [<!ENTITY a \"b\">]><methodCall>"),
        good.replace("<methodName>f</methodName>", ""),
        good.replace("methodCall", "methodResponse"),
        good.replace("<int>0</int>", "<int>zero</int>"),
        good.replace("<int>0</int>", "<int>99999999999999999999</int>"),
        good.replace("<int>0</int>", "<int></int>"),
        good.replace("<data></data>", "<data>&unknown;</data>"),
        "<value>".repeat(10_000),
        "<methodCall><methodName>f</methodName><params><param>".to_owned() + &"<value><array><data>".repeat(50_000),
    ] {
        assert!(!fault(broken.as_bytes()).text.is_empty(), "{broken:.200}");
    }
    assert!(!fault(b"\xff\xfe<methodCall>").text.is_empty());
    for method in ["g", "F", "system.listMethods", ""] {
        let fault = fault(method_call(method, &[&int(1)]).as_bytes());
        assert!(fault.text.contains("f(proof, op, arg)"), "{method}: {fault:?}");
    }
    let fault = fault(method_call("\u{202e}\u{9b}31m", &[]).as_bytes());
    assert!(!fault.text.contains(['\u{202e}', '\u{9b}']), "{fault:?}");
    assert_eq!(call(server.url(), 0, &array([""; 0])).peers(), [server.url()]);
}

#[test]
fn patterns_that_cannot_be_used_are_faults() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    for pattern in ["(", "[", "*", "a{2", "(?!x)", "(?<!x)y", r"(a)\1", "(?P<n>a)(?P<n>b)"] {
        let answer = call(server.url(), 1, &string(pattern));
        if pattern == "a{2" {
            // A brace that opens no repetition is a brace in Python.
            assert_eq!(answer.names(), [""; 0]);
        } else {
            assert!(answer.fault().text.len() > 5, "{pattern}");
        }
    }
}

#[test]
fn content_goes_as_it_is_to_those_who_accept_that() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let url = server.url();
    let answer = |accept: &str, document: &str| {
        let mut connection = Connection::open(url);
        let length = document.len();
        connection
            .send(format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\n{accept}Content-Length: {length}\r\n\r\n{document}"));
        connection.response()
    };
    let ours = "Accept: application/octet-stream, text/xml\r\n";
    for name in ["file0", "crlf.txt", "empty", "utf8.txt", "bin.dat"] {
        let fetch = call_for(PASSWORD, url, 2, &string(name));
        let raw = answer(ours, &fetch);
        assert_eq!(raw.header("Content-Type"), Some("application/octet-stream"), "{name}");
        assert_eq!(raw.header("Content-Length"), Some(&*dir.read(name).len().to_string()), "{name}");
        assert_eq!(raw.body, dir.read(name), "{name}");
        for accept in ["", "Accept: */*\r\n", "Accept: text/xml\r\n"] {
            assert_eq!(answer(accept, &fetch).answer().content(), dir.read(name), "{accept:?} {name}");
        }
    }
    // All that is no content stays what it was.
    answer(ours, &call_for("wrong", url, 2, &string("file0"))).answer().assert_false();
    answer(ours, &call_for(PASSWORD, url, 2, &string("no such file"))).answer().fault();
    assert_eq!(answer(ours, &call_for(PASSWORD, url, 0, &array([""; 0]))).answer().peers(), [url]);
    assert_eq!(answer(ours, &call_for(PASSWORD, url, 1, &string("file"))).answer().names(), ["file0", "file1"]);
}

#[test]
fn raw_content_carries_its_version_and_the_time_of_its_last_change() {
    let dir = Dir::with([("file", &b"content"[..])]);
    let server = serve(&dir).start();
    let url = server.url();
    let touch = |modified: SystemTime| {
        let file = File::options().write(true).open(dir.join("file")).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    };
    let headers = || {
        let document = call_for(PASSWORD, url, 2, &string("file"));
        let mut connection = Connection::open(url);
        let (accept, length) = ("Accept: application/octet-stream", document.len());
        connection.send(format!("POST /RPC2 HTTP/1.1\r\n{accept}\r\nContent-Length: {length}\r\n\r\n{document}"));
        let response = connection.response();
        assert_eq!(response.body, b"content");
        (response.header("ETag").unwrap().to_owned(), response.header("Last-Modified").map(str::to_owned))
    };
    let moment = UNIX_EPOCH + Duration::new(784_111_777, 999_999_999);
    touch(moment);
    let (version, modified) = headers();
    assert_eq!(modified.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let digits = version.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    assert!(digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{version}");
    assert_eq!(headers(), (version.clone(), modified), "it is the same state");
    touch(moment - Duration::from_nanos(1));
    let (other, modified) = headers();
    assert_ne!(other, version);
    assert_eq!(modified.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    touch(UNIX_EPOCH - Duration::from_secs(1));
    assert_eq!(headers().1, None, "of a time before 1970 there is none");
    touch(SystemTime::now() + Duration::from_secs(1_000_000_000));
    assert!(headers().1.unwrap().ends_with(" GMT"));
    let xml = post(url, call_for(PASSWORD, url, 2, &string("file")));
    assert!(xml.header("ETag").is_none() && xml.header("Last-Modified").is_none(), "{xml:?}");
}

/// Sends bytes on a connection of their own and returns the status that they are answered with.
#[track_caller]
fn status_of(server: &Server, bytes: impl AsRef<[u8]>) -> u16 {
    let mut connection = Connection::open(server.url());
    connection.send(bytes);
    connection.response().status
}

#[test]
fn other_paths_get_404_and_what_is_no_request_400() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    for (request, status) in [
        ("POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404),
        ("POST /RPC2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404),
        ("POST RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(status_of(&server, request), status, "{request:?}");
        assert_eq!(call(server.url(), 0, &array([""; 0])).peers(), [server.url()], "after {request:?}");
    }
}

#[test]
fn other_methods_are_told_which_one_is_allowed() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        for path in ["/", "/RPC2"] {
            let mut connection = Connection::open(server.url());
            connection.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
            let response = connection.response();
            assert_eq!(response.status, 405, "{method} {path}");
            assert!(response.header("Allow").is_some_and(|allow| allow.contains("POST")), "{response:?}");
        }
    }
    let mut connection = Connection::open(server.url());
    connection.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.head().status, 405);
}

#[test]
fn a_body_that_is_too_long_is_refused_also_while_it_is_being_sent() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let mut connection = Connection::open(server.url());
    let head = format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 8 * 1024 * 1024);
    connection.send(head);
    connection.send(vec![b'x'; 8 * 1024 * 1024]);
    assert_eq!(connection.response().status, 413);
}

#[test]
fn a_connection_is_kept_for_the_next_call() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let mut connection = Connection::open(server.url());
    for _ in 0..3 {
        connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("file1")));
        assert_eq!(connection.response().answer().content(), b"another\n");
        connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("no such file")));
        connection.response().answer().fault();
        connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("empty")));
        assert_eq!(connection.response().answer(), Answer(Ok(Value::Text(Vec::new()))));
        connection.post("/RPC2", "broken");
        connection.response().answer().fault();
    }
}

#[test]
fn calls_sent_in_advance_are_answered_one_after_the_other() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let mut connection = Connection::open(server.url());
    for name in ["file0", "file1", "utf8.txt"] {
        connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string(name)));
    }
    for name in ["file0", "file1", "utf8.txt"] {
        assert_eq!(connection.response().answer().content(), dir.read(name));
    }
}

#[test]
fn a_caller_that_asks_for_it_finds_the_connection_closed() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let document = call_for(PASSWORD, server.url(), 0, &array([""; 0]));
    let length = document.len();
    for head in [
        format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"),
        format!("POST /RPC2 HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"),
        format!("POST /RPC2 HTTP/1.0\r\ncontent-length:{length}\r\nConnection: keep-alive\r\n\r\n"),
    ] {
        let mut connection = Connection::open(server.url());
        connection.send(head + &document);
        assert_eq!(connection.response().answer().peers(), [server.url()]);
        assert_eq!(connection.rest(), b"");
    }
}

#[test]
fn a_caller_that_asks_first_is_told_to_continue() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    let document = call_for(PASSWORD, server.url(), 0, &array([""; 0]));
    let length = document.len();
    let mut connection = Connection::open(server.url());
    connection
        .send(format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"));
    assert_eq!(connection.head().status, 100);
    connection.send(document);
    assert_eq!(connection.response().answer().peers(), [server.url()]);
}

#[test]
fn eight_callers_that_keep_their_connections_are_all_served() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let barrier = Arc::new(Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            let (barrier, server) = (barrier.clone(), &server);
            scope.spawn(move || {
                let mut connection = Connection::open(server.url());
                for round in 0..20 {
                    if round % 5 == 0 {
                        barrier.wait();
                    }
                    connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("file0")));
                    assert_eq!(connection.response().answer().content(), b"hello <b> & world\n");
                }
            });
        }
    });
}

#[test]
fn callers_that_leave_in_the_middle_do_no_harm() {
    let dir = recorded_files();
    let server = serve(&dir).start();
    let document = call_for(PASSWORD, server.url(), 2, &string("file0"));
    for length in [0, 1, document.len() / 2, document.len()] {
        for _ in 0..10 {
            let mut connection = Connection::open(server.url());
            let head = format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", document.len());
            connection.send(head + &document[..length]);
        }
    }
    assert_eq!(call(server.url(), 2, &string("file0")).content(), b"hello <b> & world\n");
}
