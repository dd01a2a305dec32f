//! Chosen patterns: plain ones, anchors, classes, repeats, escapes, categories, boundaries, case, flags, groups, look-around
//! and white space.

use super::python::{NAMES, differences};

/// Separated by white space, with `␣` for a space and `¶` for a line feed.
const PATTERNS: &str = r"
a \.txt$ ^\w+\.txt$ (?i)\.(jpe?g|png)$ \w{3,20}-\w{1,4} ^[^.] ^\. \d+ [0-9]{4}-[0-9]{2}-[0-9]{2} foo|bar | a||b (|a)b
. ^.$ ^..$ ^$ é 日|😀 ^.\.gif
\Aa a\Z txt\Z (?m)^a$ (?m)a$ $ ^ ^a|b$ ^* $? \b+ \A{2} (^)*a (?:^)+a a^b x*$y*
[a] []a] [^]a] [] [^] []-a] [a-] [-a] [a-c-e] [--/] [+--] [a--] [--a] [z-a] [a-\d] [\d-a] [\d-] [\w.-]+$ [[] [[a]
[[a]] [a[b]c] [[:alpha:]] [[:alpha:]]+ [[:^digit:]] [a&&b] [a&&b]{2} [a--b] [a~~b] [a||b] [|~&-]{2} [^a&&b] [\^] [a^]
[^^] [$] [.] [(]a[)] [{}] [#] [\b] [\B] [\A] [\Z] [\]] [\\] [\-] [\&\~] [\x41-\x5a] [\u00e9] [\U0001F600] [\0-\37]
[\101] [\1] [\8] [\400] [\q] [\_] [\ud800] [^\ud800] [\ud800-\udfff] [\ud000-\uffff] [\u0000-\U0010ffff]
[^\u0000-\U0010ffff] [a-z [a [ [^ [a- [\W\d] ^[^\W\d_]+$ [^\s\S] [\D\d] [é-ï] [^\x00-\x7f] [😀-😎]
a* a+a a?b a*?b a+? a?? a{2} ^a{2}$ ^a{,1}$ ^a{0,}$ ^.{,}$ a{,5}b a{2,1} a{1}{2} a** a+* a{2}* a*?? a{2}? a{2}?? a*+
a++ a?+ a{2}+ a{ a{} { } {} {,} {1} {a} {1,2 x{1,2 x{1,2x} a{b} {{2} {{1,2}} a{2 a{-1} a{٣} a{4294967295}
a{99999999999999999999} a{0}b (a){2} (?:){3} (?:)* ()* (a*)*b (a*)+ (a|b*)*c *a + ?x (*a) (?:*a) a|* a|+b (|*) *.txt
foo*.jpg
\. \<b\> \'\,\@\%\!\=\;\:\/ \\ \\d \ a\ \\\ \é \日 \_ \y \p{L} \pL \h \G \K \Q \e \c \R \X \a \f \n \r \t \v \0 \07
\012 \0123 \101 \141 \377 \400 \777 \08 \x41 \x4 \x \x{41} \xe9 \u00e9 \u00e \u{e9} \U0001F600 \U0001F60 \U00110000
\ud83d\ude00 \ud800 a|\ud800 \ud800*a \N \N{} \1 (a)\1 (a)\2 (a\1) \18 \81 (a)(b)\12
\d \D ^\D+$ \w ^\w+$ \W ^\W+$ \s \S ^\S+$ ^\S$ \w\W\w ^.\s.\s.$ [\s] [^\s]+$ \w{5}
\b \B \bcafe\b cafe\b cafe\B \bx x\b x\B x\B.\B.\b ²\b \B² ½\b$ ^\b ^\B \b$ \B$ ^\B.\B$ ^\B\u0301\B$ ^\b. a\b.\bb
a\b\u200d\bb a\b[^a]\bb a\b\W\bb \bⒶ \BⒶ \b\d+\b \b\w+\b ^\w+\b \b[\w-]+\b \b(é|e\u0301) \b\b \b\B (\b|a)+ (\ba|b)+
(?a)\b (?a)\bé (?a)\Bé (?a)^\B.\B$ (?a:\b)é\b (?a:\B)é\b (?i)\bCAFE\b \b[^\W\d_] \b\ud800?a \b\S+²
(?i)a (?i)K (?i)^k (?i)\u212a (?i)s{2} (?i)ſ (?i)ß (?i)SS (?i)i (?i)^ı.ı.ı$ (?i)É (?i)[é] (?i)[a-z]{4} (?i)^[k-s]
(?i)^[^k] (?i)^[^a-z]+$ (?i)σσσ (?i)µµ (?i:a)B (?i:B)\.txt (?i)(?-i:b)\.txt (?i)b(?-i:\.)txt (?ia)k (?ai)^[^k]
(?ia:s)(?i:s) (?i)[@-\[] (?i)[^@-\[]{4} (?i)[Z-a]
(?s)a.b (?s). (?m)^ (?x)[#] (?x)\#1 (?a)\w (?a)^\w+$ (?a)\W (?a)\d (?a)\D (?a)\s (?a)\S (?a)[\w] (?a)[\W] (?a)[^\s]
(?u)\w (?a).*(?u:\w)$ (?a:\w)$ (?u:(?a:\w)\w) (?L)a (?L:a) (?au)a (?aa)a (?a)(?u)a (?au:a) (?i-i:a) (?-a:a) (?-i)a
(?i-)a (?-:a) (?-) (?i (?i: (?i- (?i-s (?ii)A (?ims-x:A.B) (?imsx)A.B (?y)a (?iy)a (?i-y:a) (?é)a a(?i) (?i)(?s)A.B
(?#c)(?i)A (?:)(?i)A ^(?i)A ((?i)A) |(?i)A (?i)* (?i)|A
(a) (?:a) (?P<n>a) (?P<n>a)(?P<n>b) (?P<n>a)|(?P<m>b) (?P<1>a) (?P<é>a) (?P<>a) (?P<n (?P<n> (?P=n) (?P<n>a)(?P=n)
(?P>n) (?P (?<n>a) (?'n'a) (?#comment)a a(?#comment)* (?#comment)* (?#a\)b)a (?# (?=a) a(?=b) (?!a) ^(?!a) (?<=a)b
(?<!a)b (?<=a*)b (?< (?>a) (?>a*)b (a)?(?(1)b|c) (?(1)a) (?P<n>a)?(?(n)b) (?|a) (?R) (?1) (?&n) (? ( ) (a a) (a)) ((a)
() (?) (?: (?:a ((((((((((a)))))))))) (a|b)(c|\.) a(?#x)b (*) (?:a|)b (?:a|b|)+c
^(?!.*\.txt$) ^(?=a) ^(?=a)(?!ab) ^(?=.*[a-c])(?=.*\.)(?!\.).*t$ \A(?!a)b (?=b) (?=a|b) (?=.*t) (?=.*a).*b
(?=.*a)(?=.*b) (?=.*a)(?=.*b).*\. (?=.*?a).*?c (?=) (?=)a (?=a)b (?=a)(?=b) (?=.*a|b).*c (?=.*a)b (?!a) (?!.*a) a(?=b)
^a(?!b) ^(?=a)*b ^(?=a)+ ^(?!a){2}b ^(?!a)?a ^^(?!a) (?m)^(?!a) (?m)\A(?!a)b (?m)^(?=a) ^(?!a)|b b|^(?!a) (^(?!a)b)
(?:^(?!a)b) ^((?!a).)*$ ^(?!a|b) ^(?!(a|b)c) ^(?=(a|b))b (?i)^(?!A) (?i)^(?!.*\.TXT$) ^(?i:(?!A)) ^(?!(?i:A))
(?s)^(?!a.b) ^(?#c)(?!a) ^(?!a)(?#c)* ^(?!a)(?P<n>b)(?P<n>c) ^(?!(?P<n>a))(?P<n>b) ^(?!(?P<n>a))(?P<m>b) ^(?!(?!a))
^(?=(?=a)b) ^(?!a(?<!b)$) ^(?!a ^(?! ^(?=a)) (?<!\.txt)$ (?<!t)$ (?<=txt)$ (?<=txt)\Z (?<!a)(?<!b)$ (?<!a)(?<=b)\Z
^.*(?<!t)$ ^a*(?<!a)$ a(?<!aa)$ b(?<=ab)$ (?<![a-t])$ (?<!\d\w)$ (?<!.{3})$ (?<!a|b)$ (?<!ab|b)$ (?<!(?:ab|cd)e)$
(?<!a*)$ (?<!a?)$ (?<!a{2,3})$ (?<!a{2})$ (?<!a{2}|bb)$ (?<!)$ (?<=)$ (?<!^a)$ (?<=^ab)$ (?<!\b)$ (?<!a$)$ (?<!a)
(?<!a)b$ b(?<!a)b (?<!a)$$ (?<!a)$b (?<!a)$|b b|(?<!a)$ (b(?<!a)$) (?m)(?<!a)$ (?m)(?<!a)\Z (?<!a)*$ (?<!a)+$ (?<!a)$*
(?<!a (?<=a)$(?<=b) (?<!a)(?#c)$(?#c) (?i)(?<!\.TXT)$ (?i)(?<!k|s)$ (?<!é)$ (?<!é|ab)$ (?<!é|a)$ ^(?!a)(?<!t)$
^(?!a).*[a-z](?<!t)(?<!g)$ ^(?=.*x).*(?<!t)$ ^(?!.*\.(?:txt|jpg)$) (?a)^(?!\w) ^(?!\b) ^(?!\B)
␣ \␣ x{1,␣2} a{␣2} \#\␣\-\&\~ \N{LATIN␣SMALL␣LETTER␣A} (?i)^i␣i (?i)^[\w␣]+$ (?x)␣a␣b␣#␣comment (?x)␣a␣\␣␣b (?x)[␣]a
(?x)a␣#␣b¶b (?x)a␣#␣b␣\¶b (?x)a␣+ (?x)a␣+␣? (?x)a{1,␣2} (?x)a␣{2} (?x)(␣?:a) (?x)(?␣:a) (?x)a␣# (?x)␣(?i)A (?x:␣a␣b␣)c
(?x:␣a␣(?-x:␣)b) (?x)a|b␣#␣x¶|c (?P<a␣b>a) (?x)^␣(?!a)␣(?!b)␣c (?x)^␣(?#c)␣(?=␣a␣)␣b (?x)␣(?=a) (?x)(?<!a)␣$
(?x)(?<!a)␣$␣ (?x)(?<!a)␣(?<!b)␣\Z
";

#[test]
fn chosen_patterns_mean_what_they_mean_to_python() {
    let spaced = PATTERNS.split_whitespace().map(|pattern| pattern.replace('␣', " ").replace('¶', "\n"));
    let patterns: Vec<String> = spaced.chain(["", "(?x)a\u{a0}b", "(?x)a\u{b}b"].map(str::to_owned)).collect();
    let names: Vec<&str> = NAMES.split_whitespace().chain(["photo 001.JPG", "#1 *?+^$", "a\u{a0}b\u{2003}c"]).collect();
    assert_eq!(differences(&names, &patterns), "");
}
