//! Rules for Rust sources: tests that say something, libraries that stay pure.

use super::Finding;

/// What a test has to contain: something that can fail on a wrong result.
const SAYS_SOMETHING: [&str; 4] = ["assert", "check", "snapshot", "expect_err"];
/// Crates that touch no files, clocks or environment.
const PURE: [&str; 5] = ["graph", "exec", "solve", "prune", "rebuild"];
const IMPURE: [&str; 4] = ["std::fs", "std::env", "std::time", "std::net"];

/// Returns the findings of one Rust source file.
pub(super) fn check(path: &str, contents: &str) -> Vec<Finding> {
    let code = code_only(contents);
    let mut findings = Vec::new();
    let attribute = concat!("#[", "ignore");
    for (at, _) in code.match_indices(attribute) {
        let message = format!("`{attribute}]`: a slow test returns early unless REGRAFT_SLOW=1");
        findings.push(Finding::new(path, line_of(&code, at), message));
    }
    let asserting = asserting_functions(&code);
    for (at, _) in code.match_indices("#[test]") {
        let body = item_after(&code, at);
        let calls_one = || asserting.iter().any(|call| body.contains(call.as_str()));
        if !says_something(body) && !calls_one() {
            let message = "a test without an assert, a check or a snapshot";
            findings.push(Finding::new(path, line_of(&code, at), message));
        }
    }
    if is_pure(path) {
        // Tests may read files: they stand at the end or in their own file.
        let shipped = code.split("#[cfg(test)]").next().unwrap_or_default();
        for word in IMPURE {
            for (at, _) in shipped.match_indices(word) {
                let message =
                    format!("`{word}`: this crate touches no files, clocks or environment");
                findings.push(Finding::new(path, line_of(&code, at), message));
            }
        }
    }
    findings
}

fn says_something(body: &str) -> bool {
    SAYS_SOMETHING.iter().any(|word| body.contains(word))
}

/// Returns `name(` of every function of the file that itself contains an assert.
fn asserting_functions(code: &str) -> Vec<String> {
    let functions = code.match_indices("fn ");
    functions
        .filter(|&(at, _)| says_something(item_after(code, at)))
        .filter_map(|(at, keyword)| {
            let rest = code.get(at + keyword.len()..)?;
            let name = rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()?;
            (!name.is_empty()).then(|| format!("{name}("))
        })
        .collect()
}

fn is_pure(path: &str) -> bool {
    let in_library = PURE
        .iter()
        .any(|room| path.starts_with(&format!("crates/regraft-{room}/src/")));
    in_library && !path.ends_with("/tests.rs") && !path.contains("/tests/")
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// Returns the text from `at` to the end of the first block that opens after it.
fn item_after(code: &str, at: usize) -> &str {
    let rest = code.get(at..).unwrap_or_default();
    let mut depth = 0_usize;
    for (index, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return rest.get(..=index).unwrap_or(rest),
            '}' => depth -= 1,
            _ => {}
        }
    }
    rest
}

/// Returns the text with comments, strings and characters as spaces; lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = skipped(rest, code.chars().next_back());
        let (part, next) = rest.split_at(length.max(c.len_utf8()));
        if length == 0 {
            code.push_str(part);
        } else {
            code.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = next;
    }
    code
}

/// Returns the length in bytes of the comment or literal that `rest` starts with, or 0.
fn skipped(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |at| at + 2);
    }
    let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && !is_word {
        let hashes = rest.bytes().skip(1).take_while(|&b| b == b'#').count();
        if rest
            .get(1 + hashes..)
            .is_some_and(|text| text.starts_with('"'))
        {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = rest.get(2 + hashes..).unwrap_or_default();
            return body
                .find(&end)
                .map_or(rest.len(), |at| 2 + hashes + at + end.len());
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted(rest, b'"'),
        // `'a'` and `'\n'` are characters; `'a` alone is a lifetime.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', ..] => {
            let mut chars = rest.char_indices().skip(2);
            chars
                .next()
                .filter(|&(_, c)| c == '\'')
                .map_or(0, |(at, _)| at + 1)
        }
        _ => 0,
    }
}

fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::{check, code_only};

    fn messages(path: &str, contents: &str) -> usize {
        check(path, contents).len()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a(\"} // \\\" x\"); // {\nlet c = '{'; /* } */ r#\"\"{\"#; f::<'a>()";
        let code = code_only(text);
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains(['{', '}', '"']), "{code}");
        assert!(code.contains("f::<'a>()"), "{code}");
    }

    #[test]
    fn a_test_has_to_say_something() {
        let silent = "#[test]\nfn a() { run(\"assert\"); }\n#[test]\nfn b() { assert!(true); }";
        assert_eq!(messages("crates/x/src/lib.rs", silent), 1);
        let calls = "fn same(a: u8) { assert_eq!(a, 1); }\n#[test]\nfn a() { same(1); }";
        assert_eq!(messages("crates/x/src/lib.rs", calls), 0);
    }

    #[test]
    fn no_test_is_switched_off() {
        let text = format!("{} = \"slow\"]\nfn a() {{}}", concat!("#[", "ignore"));
        assert_eq!(messages("crates/x/src/lib.rs", &text), 1);
    }

    #[test]
    fn pure_crates_touch_nothing_outside() {
        let text = "use std::fs;\n#[cfg(test)]\nmod tests { use std::env; }";
        assert_eq!(messages("crates/regraft-graph/src/lib.rs", text), 1);
        assert_eq!(messages("crates/regraft-onnx/src/lib.rs", text), 0);
        assert_eq!(messages("crates/regraft-graph/src/a/tests.rs", text), 0);
    }
}
