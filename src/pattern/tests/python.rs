//! Python's answers, by which ours are judged.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use super::*;

/// Answers each pattern with one line: a digit a name, or what is wrong.
const ORACLE: &str = r#"
import re, signal, sys, warnings
warnings.simplefilter("ignore")
warnings.simplefilter("error", DeprecationWarning)
def too_slow(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, too_slow)
text = lambda line: bytes.fromhex(line).decode()
names = [text(word) for word in sys.stdin.readline().split(",")]
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        regex = re.compile(text(line))
        print("".join("01"[regex.search(name) is not None] for name in names))
    except TimeoutError:
        print("slow")
    except Exception as error:
        print("error", " ".join(str(error).split()))
    signal.setitimer(signal.ITIMER_REAL, 0)
    re.purge()
"#;

/// Names without the letters that Unicode and Python see differently, separated by spaces.
pub(super) const NAMES: &str = r#"a b b.txt B.TXT aa ab abc.txt foo-bar_baz.jpg .hidden -rf ... [a] a]b[c {1,2} a{2} x{1,2
(a) a&&b a--b a~~b||c <b> \d\w é cafe.txt naïve_É.txt straße STRASSE K_k ss ٣٤.txt 日本.png 😀.gif σςΣ Z:Q,7'"@%!=;/
2004-12-31"#;

/// Asks Python whether each pattern is found in each name.
fn answers(names: &[&str], patterns: &[String]) -> Vec<String> {
    let mut python = Command::new("python3")
        .args(["-X", "utf8", "-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed to run the tests");
    let mut questions = names.iter().map(|name| hex(name)).collect::<Vec<_>>().join(",") + "\n";
    for pattern in patterns {
        questions += &(hex(pattern) + "\n");
    }
    let mut stdin = python.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(questions.as_bytes()).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), patterns.len());
    answers
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Compares our answers with Python's and says what differs.
pub(super) fn differences(names: &[&str], patterns: &[String]) -> String {
    let answers = answers(names, patterns);
    let mut differences = String::new();
    let (mut same, mut unsupported, mut invalid) = (0, 0, 0);
    for (python, answer) in patterns.iter().zip(&answers) {
        let refused = answer.starts_with("error");
        match Pattern::new(python) {
            _ if answer == "slow" => {}
            Err(_) if refused => invalid += 1,
            Err(PatternError(text)) if text.contains("not supported") || text.contains("too ") => unsupported += 1,
            Err(error) => writeln!(differences, "{python:?}: python {answer}, ours {error}").unwrap(),
            Ok(_) if refused => writeln!(differences, "{python:?}: python {answer}, ours takes it").unwrap(),
            Ok(pattern) => {
                same += 1;
                for (name, digit) in names.iter().zip(answer.chars()) {
                    if pattern.is_found_in(name) != (digit == '1') {
                        writeln!(differences, "{python:?} in {name:?}: python {digit}").unwrap();
                    }
                }
            }
        }
    }
    println!("{same} agree, {invalid} are invalid to both, {unsupported} are not supported");
    differences
}
