//! The laws of the house, read from its own sources. A breach names its file and line.
//!
//! The laws look at tokens, so what a comment or a text in quotes says breaks nothing unless the law is about that;
//! what stands behind `#[cfg(test)]` and in files called `tests.rs` is free of the laws about shipped code. For each
//! law there is a proof that its detector can fail.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

/// Where tasks begin.
const SPAWNING: [&str; 6] = [
    "src/exchange/background.rs",
    "src/exchange/open.rs",
    "src/store/redis/cluster.rs",
    "src/store/redis/purges.rs",
    "src/store/redis/repair.rs",
    "src/store/redis/wake.rs",
];

// ===== the laws =====

#[test]
fn semantics_names_no_async_no_runtime_no_store_no_log_and_no_clock() {
    obey(shipped().within("src/semantics/"), the_outside);
}

#[test]
fn only_the_redis_store_names_the_redis_client() {
    obey(shipped().within("src/").without("src/store/redis/").without("src/store/redis.rs"), the_redis_client);
}

#[test]
fn only_clock_rs_reads_a_clock() {
    obey(shipped().within("src/").without("src/clock.rs"), a_clock_reading);
}

/// Tasks that are counted, named and stopped begin in one place; the others end with what they serve.
#[test]
fn only_named_places_begin_a_task() {
    let free = SPAWNING.iter().fold(shipped().within("src/"), |sources, path| sources.without(path));
    obey(free, a_task);
}

#[test]
fn only_layout_rs_builds_a_redis_key() {
    obey(shipped().within("src/").without("src/store/redis/layout.rs"), a_redis_key);
    let scripts: Vec<String> = tree(&["src"], "lua")
        .iter()
        .flat_map(|(path, text)| keys_built_by_a_script(text).into_iter().map(move |breach| breach.in_file(path)))
        .collect();
    assert!(scripts.is_empty(), "{}", scripts.concat());
}

#[test]
fn only_cache_status_rs_writes_cache_status() {
    obey(shipped().within("src/").without("src/observe/cache_status.rs"), the_cache_status_field);
}

#[test]
fn files_have_at_most_500_lines() {
    obey(shipped(), a_long_file);
}

#[test]
fn functions_have_at_most_60_lines() {
    obey(shipped(), a_long_function);
}

#[test]
fn no_module_is_a_drawer_for_odds_and_ends() {
    obey(shipped(), a_drawer);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    obey(shipped(), an_unwrap);
}

#[test]
fn what_is_expected_is_an_invariant_in_words() {
    obey(shipped(), an_expectation_without_words);
}

#[test]
fn nothing_is_left_for_later() {
    obey(everything(), something_left_for_later);
}

#[test]
fn test_modules_stand_behind_cfg_test() {
    obey(everything().within("src/"), an_unguarded_test_module);
}

/// A law that no longer finds the one place where its subject is allowed has lost sight of it.
#[test]
fn each_privilege_is_in_use_where_it_is_granted() {
    let used = |path: &str, law: Detector| shipped().within(path).sources.iter().any(|source| !law(source).is_empty());
    assert!(used("src/clock.rs", a_clock_reading));
    assert!(SPAWNING.iter().all(|path| used(path, a_task)));
    assert!(used("src/store/redis/", the_redis_client));
    assert!(used("src/store/redis/layout.rs", a_redis_key));
    assert!(used("src/observe/cache_status.rs", the_cache_status_field));
    assert!(!shipped().within("src/semantics/").sources.is_empty());
}

// ===== the detectors =====

type Detector = fn(&Source) -> Vec<Breach>;

/// One place where a law is broken.
struct Breach {
    line: usize,
    what: String,
}

impl Breach {
    fn in_file(&self, path: &str) -> String {
        format!("{path}:{}: {}\n", self.line, self.what)
    }
}

fn breach(line: usize, what: impl Into<String>) -> Breach {
    Breach { line, what: what.into() }
}

fn the_outside(source: &Source) -> Vec<Breach> {
    const WORDS: [&str; 9] = ["async", "await", "tokio", "redis", "tracing", "clock", "Clock", "ManualClock", "thread"];
    let words = source.tokens.iter().filter(|token| WORDS.contains(&token.text.as_str()));
    words.map(|token| breach(token.line, format!("semantics names `{}`", token.text))).collect()
}

/// `redis::` at the start of a path; `crate::store::redis::` is our own room.
fn the_redis_client(source: &Source) -> Vec<Breach> {
    let names_it = |before: &[Token], after: &[Token]| {
        let is_path = is(after, 0, "::");
        let is_import = matches!(before.last(), Some(token) if token.is("use") || token.is("crate"))
            && (is(after, 0, ";") || is(after, 0, "as"));
        let goes_on_from = |token: &Token| token.kind == Kind::Word && !token.is("use") && !token.is("as");
        let is_ours = matches!(before, [.., room, colons] if colons.is("::") && goes_on_from(room));
        (is_path || is_import) && !is_ours
    };
    source.each("redis", |before, after| names_it(before, after).then(|| "names the Redis client".to_owned()))
}

/// `::now()` of whatever type, an `Instant` at all, or the age of a `SystemTime`.
fn a_clock_reading(source: &Source) -> Vec<Breach> {
    let mut breaches = source.each("now", |before, after| {
        let by_path = matches!(before.last(), Some(token) if token.is("::"));
        (by_path && is(after, 0, "(")).then(|| "reads a clock with `::now()`".to_owned())
    });
    breaches.extend(source.each("Instant", |_, _| Some("names `Instant`".to_owned())));
    let knows_system_time = source.tokens.iter().any(|token| token.is("SystemTime") || token.is("UNIX_EPOCH"));
    if knows_system_time {
        breaches.extend(
            source.each("elapsed", |_, after| is(after, 0, "(").then(|| "reads a clock with `elapsed()`".to_owned())),
        );
    }
    breaches
}

fn a_task(source: &Source) -> Vec<Breach> {
    let mut breaches = source.each("spawn", |_, after| is(after, 0, "(").then(|| "begins a task".to_owned()));
    breaches.extend(source.each("spawn_blocking", |_, _| Some("begins a task".to_owned())));
    breaches
}

/// A key carries the braces of its hash tag; who writes those builds a key.
fn a_redis_key(source: &Source) -> Vec<Breach> {
    let in_the_store = source.path.starts_with("src/store/redis/");
    let builds = |token: &&Token| match token.kind {
        Kind::Text => {
            let text = token.text.trim_start_matches(['b', 'c', 'r', '#']).trim_end_matches('#').trim_matches('"');
            [":{{", "}}:", "{purge}", "{probe}"].iter().any(|part| text.contains(part))
                || text.ends_with(":{")
                || text.starts_with("}:")
                || (in_the_store && (text == "{" || text.ends_with('}') && !text.contains('{')))
        }
        Kind::Char => in_the_store && (token.text.ends_with("'{'") || token.text.ends_with("'}'")),
        _ => false,
    };
    let tokens = source.tokens.iter().filter(builds);
    tokens.map(|token| breach(token.line, format!("builds a Redis key with {}", token.text))).collect()
}

/// A script gets its keys whole.
fn keys_built_by_a_script(text: &str) -> Vec<Breach> {
    let code = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let builds = |line: &str| line.contains("..") && (line.contains("KEYS[") || line.contains('{'));
    code.zip(1..)
        .filter(|(line, _)| builds(line))
        .map(|(_, number)| breach(number, "a script builds a Redis key"))
        .collect()
}

fn the_cache_status_field(source: &Source) -> Vec<Breach> {
    let writes = |token: &&Token| match token.kind {
        Kind::Text => token.text.to_ascii_lowercase().contains("cache-status"),
        Kind::Word => token.text == "CACHE_STATUS",
        _ => false,
    };
    let tokens = source.tokens.iter().filter(writes);
    tokens.map(|token| breach(token.line, format!("writes Cache-Status: {}", token.text))).collect()
}

fn a_long_file(source: &Source) -> Vec<Breach> {
    let free: BTreeSet<usize> = source.test_lines.iter().cloned().flatten().collect();
    let count = (1..=source.text.lines().count()).filter(|line| !free.contains(line)).count();
    if count <= FILE_LINES {
        return Vec::new();
    }
    vec![breach(1, format!("{count} lines outside tests, more than {FILE_LINES}"))]
}

fn a_long_function(source: &Source) -> Vec<Breach> {
    let tokens = &source.tokens;
    let mut breaches = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(name) = tokens.get(index + 1).filter(|name| token.is("fn") && name.kind == Kind::Word) else {
            continue;
        };
        let end = end_of_item(tokens, index);
        let count = tokens[end].line - token.line + 1;
        if count > FUNCTION_LINES {
            let what = format!("`{}` has {count} lines, more than {FUNCTION_LINES}", name.text);
            breaches.push(breach(token.line, what));
        }
    }
    breaches
}

fn a_drawer(source: &Source) -> Vec<Breach> {
    const DRAWERS: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "prelude", "misc", "types"];
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    let by_name =
        parts.filter(|part| DRAWERS.contains(part)).map(|part| breach(1, format!("a module called `{part}`")));
    let inline = DRAWERS.iter().flat_map(|drawer| {
        source.each(drawer, |before, after| {
            let is_module = matches!(before.last(), Some(token) if token.is("mod"));
            (is_module && is(after, 0, "{")).then(|| format!("a module called `{drawer}`"))
        })
    });
    by_name.chain(inline).collect()
}

fn an_unwrap(source: &Source) -> Vec<Breach> {
    let calls = ["unwrap", "unwrap_err", "unwrap_unchecked"];
    let find = |call| {
        source.each(call, |before, _| {
            let is_call = matches!(before.last(), Some(token) if token.is(".") || token.is("::"));
            is_call.then(|| format!("`{call}`"))
        })
    };
    calls.into_iter().flat_map(find).collect()
}

fn an_expectation_without_words(source: &Source) -> Vec<Breach> {
    let find = |call| {
        source.each(call, |before, after| {
            let is_call = matches!(before.last(), Some(token) if token.is(".") || token.is("::"));
            let in_words =
                is(after, 0, "(") && after.get(1).is_some_and(|token| token.kind == Kind::Text && token.text.len() > 2);
            (is_call && !in_words).then(|| format!("`{call}` without the invariant in words"))
        })
    };
    ["expect", "expect_err"].into_iter().flat_map(find).collect()
}

fn something_left_for_later(source: &Source) -> Vec<Breach> {
    const MARKS: [&str; 6] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    let lines = source.text.lines().zip(1..);
    lines
        .filter_map(|(line, number)| {
            let mark = MARKS.iter().find(|&&mark| line.contains(mark))?;
            Some(breach(number, format!("left for later: {mark}")))
        })
        .collect()
}

fn an_unguarded_test_module(source: &Source) -> Vec<Breach> {
    if is_test_file(&source.path) {
        return Vec::new();
    }
    source.each("tests", |before, _| {
        let is_module = matches!(before.last(), Some(token) if token.is("mod"));
        is_module.then(|| "`mod tests` without #[cfg(test)]".to_owned())
    })
}

// ===== the proofs that the detectors can fail =====

#[test]
fn the_laws_see_a_breach_and_where_it_is() {
    finds(the_outside, "\npub async fn decide() {}", &[2]);
    finds(the_outside, "use tokio::time;\nfn f(c: &Clock) {}", &[1, 2]);
    finds(the_redis_client, "use redis::Value;\nfn f(v: redis::Value) {}\nuse ::redis::cmd;", &[1, 2, 3]);
    finds(the_redis_client, "use redis as r;\nuse {redis::Cmd};\nextern crate redis;", &[1, 2, 3]);
    finds(a_task, "tokio::spawn(async {});\nruntime.spawn(f());\nf(spawn, 1);\nspawn_blocking(g);", &[1, 2, 4]);
    finds(a_clock_reading, "use std::time::SystemTime;\nfn f(t: SystemTime) {\n    t.elapsed();\n}", &[3]);
    finds(a_clock_reading, "use tokio::time::Instant as Tick;\nfn f() -> Tick { g() }", &[1]);
    finds(a_clock_reading, "let t = SystemTime::now();\nlet t = Tick::now();", &[1, 2]);
    finds(a_redis_key, "let key = format!(\"{ns}:{{{hash}}}:lease\");", &[1]);
    finds(a_redis_key, "key.push_str(\":{\");\nlet c = concat!(\"trc\", \":{purge}\");", &[1, 2]);
    finds(a_redis_key, "name.extend(b\":{\");\nname.extend(b\"}:lease\");", &[1, 2]);
    let in_the_store =
        Source::new("src/store/redis/purge.rs", "name.push(b'{');\nlet end = [k, b\"probe}\"].concat();");
    assert_eq!(lines(&a_redis_key(&in_the_store)), [1, 2]);
    finds(the_cache_status_field, "headers.insert(\"Cache-Status\", v);\nlet n = http::header::CACHE_STATUS;", &[1, 2]);
    finds(a_long_file, &"fn f() {}\n".repeat(FILE_LINES + 1), &[1]);
    finds(a_long_function, &function_of(FUNCTION_LINES + 1), &[1]);
    finds(a_drawer, "mod utils {}", &[1]);
    finds(an_unwrap, "fn f() {\n    x()\n        .unwrap();\n    Option::unwrap(x);\n}", &[3, 4]);
    finds(an_expectation_without_words, "x.expect(&m);\nx.expect(\"\");\nx.expect_err(why)", &[1, 2, 3]);
    finds(something_left_for_later, concat!("fn f() {}\n// TO", "DO: more"), &[2]);
    finds(
        something_left_for_later,
        concat!("#[ig", "nore = \"slow\"]\nfn f() {\n    unimple", "mented!()\n}"),
        &[1, 3],
    );
    finds(an_unguarded_test_module, "mod tests;", &[1]);
    assert_eq!(lines(&keys_built_by_a_script("local k = KEYS[1]\nlocal b = KEYS[1] .. ':b'")), [2]);
    let named = Source::new("src/exchange/helpers.rs", "");
    assert_eq!(lines(&a_drawer(&named)), [1]);
}

#[test]
fn the_laws_leave_alone_what_they_are_not_about() {
    finds(the_outside, "//! No clock, no tokio.\n/* async /* redis */ */\nconst S: &str = \"redis\";", &[]);
    finds(the_redis_client, "use crate::store::redis::RedisStore;\npub use self::redis::RedisStore;\nmod redis;", &[]);
    finds(a_clock_reading, "let now = clock.now();\nlet span = stopwatch.elapsed();\nfn f(now: Timestamp) {}", &[]);
    finds(a_redis_key, "let origin = format!(\"{host}:{port}\");\nfn f() { g(|| {}) }", &[]);
    finds(a_long_file, &"fn f() {}\n".repeat(FILE_LINES), &[]);
    finds(a_long_function, &function_of(FUNCTION_LINES), &[]);
    finds(an_unwrap, "x.unwrap_or_default();\nx.unwrap_or(1);\n/// x.unwrap()\nfn f() {}", &[]);
    finds(an_expectation_without_words, "x.expect(\"a lead has a flight\");\n#[expect(dead_code)]\nfn f() {}", &[]);
    finds(an_unwrap, "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); }\n}\nfn g() { y.unwrap() }", &[5]);
    finds(an_unguarded_test_module, "#[cfg(test)]\nmod tests;", &[]);
}

#[test]
fn the_reader_knows_a_quote_from_a_lifetime_and_a_brace_from_its_picture() {
    let source = Source::new(
        "x.rs",
        "fn f<'a>(c: char) -> bool { c == '{' || c == '\\'' || s == r#\"}\"{\"# || b\"\\\"}\" == t }\nfn g() {}",
    );
    let kinds = |kind| source.tokens.iter().filter(|token| token.kind == kind).count();
    assert_eq!((kinds(Kind::Char), kinds(Kind::Text)), (2, 2));
    assert_eq!(source.tokens[end_of_item(&source.tokens, 0)].line, 1);
    assert_eq!(source.tokens.last().map(|token| token.line), Some(2));
}

#[test]
fn lines_behind_cfg_test_do_not_count() {
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn f() {}\n".repeat(FILE_LINES));
    finds(a_long_file, &tests, &[]);
}

#[track_caller]
fn finds(law: Detector, text: &str, expected: &[usize]) {
    let mut found = lines(&law(&Source::new("src/some/room.rs", text)));
    found.sort_unstable();
    assert_eq!(found, expected, "in:\n{text}");
}

fn lines(breaches: &[Breach]) -> Vec<usize> {
    breaches.iter().map(|breach| breach.line).collect()
}

fn function_of(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    call();\n".repeat(lines - 2))
}

// ===== the sources =====

/// One file of Rust; `tokens` are those outside tests.
struct Source {
    path: String,
    text: String,
    tokens: Vec<Token>,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (tokens, test_lines) = without_tests(tokens_of(text));
        Self { path: path.to_owned(), text: text.to_owned(), tokens, test_lines }
    }

    /// Asks `judge` about each place where a word stands, with the tokens before and after it.
    fn each(&self, word: &str, judge: impl Fn(&[Token], &[Token]) -> Option<String>) -> Vec<Breach> {
        let places = self.tokens.iter().enumerate();
        places
            .filter(|(_, token)| token.kind == Kind::Word && token.text == word)
            .filter_map(|(index, token)| {
                let what = judge(&self.tokens[..index], &self.tokens[index + 1..])?;
                Some(breach(token.line, what))
            })
            .collect()
    }
}

struct Sources {
    sources: Vec<Source>,
}

impl Sources {
    fn within(mut self, folder: &str) -> Self {
        self.sources.retain(|source| source.path.starts_with(folder));
        self
    }

    fn without(mut self, folder: &str) -> Self {
        self.sources.retain(|source| !source.path.starts_with(folder));
        self
    }
}

/// What users run or copy: the library and its examples, without their tests.
fn shipped() -> Sources {
    let mut shipped = Sources { sources: read(&["src", "examples"]) };
    shipped.sources.retain(|source| !is_test_file(&source.path));
    shipped
}

fn everything() -> Sources {
    Sources { sources: read(&["src", "examples", "tests", "benches"]) }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn read(folders: &[&str]) -> Vec<Source> {
    let sources: Vec<Source> = tree(folders, "rs").iter().map(|(path, text)| Source::new(path, text)).collect();
    assert!(sources.len() > 10, "the sources are not where they are looked for");
    sources
}

/// The files with this extension, by their paths from the top of the tree, sorted.
fn tree(folders: &[&str], extension: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<_> = folders.iter().map(|folder| top.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if let Ok(entries) = fs::read_dir(&path) {
            waiting.extend(entries.map(|entry| entry.expect("a folder can be listed").path()));
        } else if path.extension().is_some_and(|found| found == extension) {
            let name = path.strip_prefix(top).expect("the file is below the top").to_string_lossy().replace('\\', "/");
            files.push((name, fs::read_to_string(&path).expect("a source is text")));
        }
    }
    files.sort();
    files
}

#[track_caller]
fn obey(sources: Sources, law: Detector) {
    let mut report = String::new();
    for source in &sources.sources {
        for breach in law(source) {
            write!(report, "{}", breach.in_file(&source.path)).expect("a String takes all");
        }
    }
    assert!(report.is_empty(), "the law is broken here:\n{report}");
}

// ===== the reader of Rust =====

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Text,
    Char,
    Other,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    text: String,
    line: usize,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

fn is(tokens: &[Token], index: usize, text: &str) -> bool {
    tokens.get(index).is_some_and(|token| token.is(text))
}

/// Words, texts, characters and signs; comments and blanks are left out.
fn tokens_of(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let (kind, length) = next_token(rest);
        let (token, after) = rest.split_at(length);
        if let Some(kind) = kind {
            tokens.push(Token { kind, text: token.to_owned(), line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The kind and length of the first token; no kind for blanks and comments.
fn next_token(rest: &str) -> (Option<Kind>, usize) {
    let is_word = |char: char| char == '_' || char.is_alphanumeric();
    let blanks = rest.len() - rest.trim_start().len();
    let word = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
    if blanks > 0 {
        (None, blanks)
    } else if rest.starts_with("//") {
        (None, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (None, block_comment(rest))
    } else if let Some(length) = raw_text(rest).or_else(|| plain_text(rest)) {
        (Some(Kind::Text), length)
    } else if let Some(length) = character(rest) {
        (Some(Kind::Char), length)
    } else if word > 0 {
        (Some(Kind::Word), word)
    } else if rest.starts_with("::") {
        (Some(Kind::Other), 2)
    } else {
        (Some(Kind::Other), rest.chars().next().map_or(1, char::len_utf8))
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let here = &rest[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += here.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at >= rest.len() {
            return at;
        }
    }
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_text(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        after.trim_start_matches('#').starts_with('"')
    })?;
    let hashes = rest[prefix.len()..].find('"')?;
    let begin = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[begin..].find(&end).map_or(rest.len(), |length| begin + length + end.len()))
}

/// `"…"`, `b"…"`, `c"…"`.
fn plain_text(rest: &str) -> Option<usize> {
    let prefix = ["\"", "b\"", "c\""].into_iter().find(|prefix| rest.starts_with(prefix))?;
    Some(closing(rest, prefix.len(), '"'))
}

/// `'x'`, `'\n'`, `b'x'`; not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let prefix = ["'", "b'"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let mut chars = rest[prefix.len()..].chars();
    let (first, second) = (chars.next()?, chars.next()?);
    (first == '\\' || second == '\'').then(|| closing(rest, prefix.len(), '\''))
}

/// The length up to and with the closing quote, which a backslash hides.
fn closing(rest: &str, begin: usize, quote: char) -> usize {
    let mut is_hidden = false;
    for (at, char) in rest[begin..].char_indices() {
        match char {
            _ if is_hidden => is_hidden = false,
            '\\' => is_hidden = true,
            _ if char == quote => return begin + at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Splits off the items behind `#[cfg(test)]`, and tells which lines they stand on.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<RangeInclusive<usize>>) {
    const GUARD: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut lines, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let is_guard = GUARD.iter().enumerate().all(|(offset, text)| is(&tokens, at + offset, text));
        if is_guard {
            let end = end_of_item(&tokens, at + GUARD.len());
            lines.push(tokens[at].line..=tokens[end].line);
            at = end + 1;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, lines)
}

/// The index of the token that ends the item which begins at `from`: a `;` or the `}` of its block.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(from).filter(|(_, token)| token.kind == Kind::Other) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            ";" if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len() - 1
}
