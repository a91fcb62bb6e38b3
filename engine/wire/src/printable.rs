/// A peer's words as they may stand in a log or on a terminal: what would not be printed, control
/// and direction characters above all, is escaped as in a Rust literal; the rest stays as it is.
///
/// Harmless to repeat. Up to ten times as long as `text`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Quotes and backslashes print well.
        if matches!(c, '"' | '\'' | '\\') {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = printable(text);
        assert_eq!(found, expected);
        assert_eq!(printable(&found), expected, "twice");
    }

    #[test]
    fn nothing_but_text_is_left() {
        check("", "");
        check("node \"a\" isn't C:\\b", "node \"a\" isn't C:\\b");
        check("M\u{fc}nchen, \u{6771}\u{4eac}", "M\u{fc}nchen, \u{6771}\u{4eac}");
        check("red \x1b[31m", "red \\u{1b}[31m");
        check("two\r\nlines\t\0", "two\\r\\nlines\\t\\0");
        check("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}");
        check("abc\u{202e}txt\u{2066}", "abc\\u{202e}txt\\u{2066}");
    }
}
