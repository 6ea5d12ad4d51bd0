//! Limits on documents. Those on the text are checked here, before it is parsed; the others in `shape`.

use crate::error::Error;

/// How large a document may be, and what it may ask for. The parser recurses, so its input is bounded before it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Its text, in bytes.
    pub max_document_bytes: usize,
    /// Its tokens: names, numbers, strings, punctuation.
    pub max_document_tokens: usize,
    /// Brackets of any kind inside each other.
    pub max_document_nesting: usize,
    /// Fields inside each other.
    pub max_depth: usize,
    /// Fields, fragments written out. What is in a page of a list counts as often as `first` or `last` says, or else
    /// as `page_entries` does; what is in a list of introspection counts ten times.
    pub max_complexity: u64,
    /// Entries that a page of a list has where the client does not say how many it wants.
    pub page_entries: u64,
    /// Fields under another name than their own.
    pub max_aliases: usize,
    /// Fields at an operation's root.
    pub max_root_fields: usize,
    /// Directives in the whole document.
    pub max_directives: usize,
    /// Whether it may ask for the schema.
    pub introspection: bool,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            max_document_bytes: 256 << 10,
            max_document_tokens: 10_000,
            max_document_nesting: 64,
            max_depth: 24,
            max_complexity: 200_000,
            page_entries: 50,
            max_aliases: 100,
            max_root_fields: 50,
            max_directives: 100,
            introspection: true,
        }
    }
}

impl DocumentLimits {
    /// Whether the text is within the limits; the error names the first one that it is over.
    pub fn check(&self, text: &str) -> Result<(), Error> {
        if text.len() > self.max_document_bytes {
            return Err(Error::limit("max_document_bytes", format!("{} bytes", self.max_document_bytes)));
        }
        let (mut tokens, mut nesting) = (0_usize, 0_usize);
        for token in Tokens(text.as_bytes()) {
            tokens += 1;
            if tokens > self.max_document_tokens {
                return Err(Error::limit("max_document_tokens", format!("{} tokens", self.max_document_tokens)));
            }
            match token {
                b'{' | b'[' | b'(' => nesting += 1,
                b'}' | b']' | b')' => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            if nesting > self.max_document_nesting {
                let allowed = format!("{} brackets inside each other", self.max_document_nesting);
                return Err(Error::limit("max_document_nesting", allowed));
            }
        }
        Ok(())
    }
}

/// The first byte of each token. What is no token in GraphQL counts as one per byte: the parser will refuse it.
struct Tokens<'a>(&'a [u8]);

impl Iterator for Tokens<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let (&first, rest) = self.0.split_first()?;
            self.0 = match first {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => rest,
                b'#' => skip_while(rest, |byte| byte != b'\n' && byte != b'\r'),
                b'"' => {
                    self.0 = after_string(self.0);
                    return Some(first);
                }
                _ if is_word(first) => {
                    let number = first == b'-' || first.is_ascii_digit();
                    self.0 = skip_while(rest, |byte| is_word(byte) || (number && byte == b'.'));
                    return Some(first);
                }
                _ => {
                    self.0 = rest.strip_prefix(b"..").filter(|_| first == b'.').unwrap_or(rest);
                    return Some(first);
                }
            };
        }
    }
}

/// Of a name or a number.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn skip_while(text: &[u8], skip: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().position(|&byte| !skip(byte)).unwrap_or(text.len());
    &text[end..]
}

/// What follows the string that `text` begins with; nothing when it does not end.
fn after_string(text: &[u8]) -> &[u8] {
    if let Some(mut block) = text.strip_prefix(b"\"\"\"") {
        while !block.is_empty() {
            if let Some(rest) = block.strip_prefix(b"\"\"\"") {
                return rest;
            }
            block = block.strip_prefix(b"\\\"\"\"").unwrap_or(&block[1..]);
        }
        return block;
    }
    let mut rest = &text[1..];
    loop {
        match rest {
            [b'\\', _, after @ ..] => rest = after,
            // A line's end also ends a string, wrongly: the parser says so.
            [b'"' | b'\n', after @ ..] => return after,
            [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn limits() -> DocumentLimits {
        let (max_document_bytes, max_document_tokens, max_document_nesting) = (100, 8, 3);
        DocumentLimits { max_document_bytes, max_document_tokens, max_document_nesting, ..DocumentLimits::default() }
    }

    fn tokens(text: &str) -> usize {
        Tokens(text.as_bytes()).count()
    }

    #[test]
    fn each_limit_admits_what_is_at_it_and_names_itself_beyond() {
        let limits = limits();
        for (within, beyond, name) in [
            (" ".repeat(100), " ".repeat(101), "max_document_bytes"),
            ("a ".repeat(8), "a ".repeat(9), "max_document_tokens"),
            ("[[[".to_owned(), "[[[[".to_owned(), "max_document_nesting"),
            ("{([".to_owned(), "{([{".to_owned(), "max_document_nesting"),
        ] {
            assert_eq!(limits.check(&within), Ok(()), "{within}");
            let error = limits.check(&beyond).unwrap_err();
            assert_eq!(error.code(), ErrorCode::LimitExceeded);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn tokens_are_counted_as_the_language_does() {
        for (text, expected) in [
            ("", 0),
            ("query Name($a: Int = -1.5e3) { field(x: $a) }", 19),
            ("# only a comment { { {", 0),
            ("a # comment\nb", 2),
            ("a # comment\rb", 2),
            ("...F ... on T", 5),
            ("a,b , , c", 3),
            (r#""one \" string" "two""#, 2),
            (r#""""block "" \""" still""" x"#, 2),
            (r#""" x"#, 2),
            ("\u{feff}a", 4),
        ] {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        let limits = limits();
        assert_eq!(limits.check(r##"{ a(x: "[[[[", y: """{{{{""") # (((("##), Err(over_tokens()));
        assert_eq!(limits.check(r#"{ a(x: "[[[[[[[[") }"#), Ok(()));
        assert_eq!(limits.check("{ a }{ b }"), Ok(()));
    }

    fn over_tokens() -> Error {
        Error::limit("max_document_tokens", "8 tokens")
    }

    #[test]
    fn a_string_without_an_end_is_one_token() {
        for text in ["\"abc", "\"abc\\", "\"\"\"abc", "\"\"\"abc\\"] {
            assert_eq!(tokens(text), 1, "{text}");
        }
    }
}
