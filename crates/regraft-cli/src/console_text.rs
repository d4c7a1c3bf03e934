//! Text on the way to the terminal: made safe, measured and written.

use std::io::{ErrorKind, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use regraft::report::TerminalStyle;

/// Columns of a file or a pipe.
const DEFAULT_WIDTH: usize = 80;

/// Returns how tables on stdout are set.
pub(crate) fn style() -> TerminalStyle {
    let stdout = std::io::stdout();
    let columns = console::Term::stdout()
        .size_checked()
        .map(|(_, columns)| usize::from(columns));
    TerminalStyle {
        width: columns
            .filter(|_| stdout.is_terminal())
            .unwrap_or(DEFAULT_WIDTH),
        colour: AutoStream::choice(&stdout) != ColorChoice::Never,
    }
}

/// Writes a result to stdout; a reader that went away is no failure.
pub(crate) fn to_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout
        .write_all(safe(text).as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a message to stderr; there is nowhere left to complain if that fails.
pub(crate) fn to_stderr(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(safe(text).as_bytes());
    let _ = stderr.flush();
}

/// Returns `text` without anything that could move the cursor, retitle the window or reorder
/// what is read: line ends, tabs and colours stay, other controls are spelt out.
///
/// Names come from files of strangers, and so does what a library says about them.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = colour_code(rest);
        if colour > 0 {
            out.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        if is_hostile(c) && c != '\n' && c != '\t' {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Returns `text` as one line: what it holds besides plain characters is spelt out.
pub(crate) fn safe_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns the bytes of the colour code (SGR) that `text` begins with, 0 if it does not.
fn colour_code(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let digits = body
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b';')
        .count();
    if digits < 20 && body.as_bytes().get(digits) == Some(&b'm') {
        digits + 3
    } else {
        0
    }
}

/// Controls, and the characters that change the order or hide the presence of others.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{safe, safe_line};

    #[test]
    fn only_colours_and_line_ends_reach_the_terminal() {
        let cases = [
            ("plain ünïcode ✓\n\tx", "plain ünïcode ✓\n\tx"),
            ("\u{1b}[32mgreen\u{1b}[0m", "\u{1b}[32mgreen\u{1b}[0m"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\rb", "a\\u{d}b"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("conv\u{202e}gnp", "conv\\u{202e}gnp"),
            ("\u{1b}[", "\\u{1b}["),
        ];
        for (text, expected) in cases {
            assert_eq!(safe(text), expected, "{text:?}");
        }
        assert_eq!(safe_line("a\nb\u{1b}[1m"), "a\\u{a}b\\u{1b}[1m");
    }
}
