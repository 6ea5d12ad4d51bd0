//! Cutting output into lines, within bounds.

use memchr::memchr2;

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Without what ended it.
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// What a line ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A newline, or the end of the output.
    Whole,
    /// A carriage return alone: on a terminal, the next line would be written over it.
    Overwritten,
    /// The limit: the rest is left out.
    Cut,
}

/// Collects bytes and gives lines. Holds one unfinished line at most.
///
/// A line that begins with `{`, perhaps after white space, can be a message and may be `max_message_bytes` long; any
/// other is only shown, and is cut at `max_text_bytes`, so that output without newlines costs no memory.
#[derive(Debug)]
pub(super) struct Splitter {
    max_message_bytes: usize,
    max_text_bytes: usize,
    unfinished: Vec<u8>,
    /// The line was given when it reached its limit: the rest of it is skipped.
    skipping: bool,
    /// The last byte that came was a carriage return: a newline now belongs to it.
    carriage_return: bool,
}

impl Splitter {
    pub(super) fn new(max_message_bytes: usize, max_text_bytes: usize) -> Self {
        Self { max_message_bytes, max_text_bytes, unfinished: Vec::new(), skipping: false, carriage_return: false }
    }

    /// Takes the next bytes and gives each line that they finish.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut give: impl FnMut(Line)) {
        if std::mem::take(&mut self.carriage_return) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = memchr2(b'\n', b'\r', bytes) {
            self.keep(&bytes[..at], &mut give);
            let (end, length) = match &bytes[at..] {
                [b'\r', b'\n', ..] => (End::Whole, 2),
                [b'\r', rest @ ..] => {
                    self.carriage_return = rest.is_empty();
                    (End::Overwritten, 1)
                }
                _ => (End::Whole, 1),
            };
            if !std::mem::take(&mut self.skipping) {
                give(Line { bytes: std::mem::take(&mut self.unfinished), end });
            }
            bytes = &bytes[at + length..];
        }
        self.keep(bytes, &mut give);
    }

    /// The line that the output ended in.
    pub(super) fn finish(self) -> Option<Line> {
        (!self.unfinished.is_empty()).then_some(Line { bytes: self.unfinished, end: End::Whole })
    }

    fn keep(&mut self, bytes: &[u8], mut give: impl FnMut(Line)) {
        if self.skipping {
            return;
        }
        // However the bytes arrive: not only as far as they are here yet.
        let mut begin = self.unfinished.iter().chain(bytes).take(self.max_text_bytes);
        let first = begin.find(|byte| !byte.is_ascii_whitespace());
        let limit = if first == Some(&b'{') { self.max_message_bytes } else { self.max_text_bytes };
        let room = limit.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.skipping = true;
            give(Line { bytes: std::mem::take(&mut self.unfinished), end: End::Cut });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(String, End)> {
        let mut splitter = Splitter::new(20, 10);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines.into_iter().map(|line| (String::from_utf8_lossy(&line.bytes).into_owned(), line.end)).collect()
    }

    #[test]
    fn a_line_ends_with_a_newline_or_the_output() {
        let expected = [("a", End::Whole), ("", End::Whole), ("b", End::Whole), ("c", End::Whole)];
        assert_eq!(split(&[b"a\n\nb\r\nc"]), expected.map(|(text, end)| (text.to_owned(), end)));
        assert_eq!(split(&[b"a\n"]).len(), 1);
        assert_eq!(split(&[]).len(), 0);
    }

    #[test]
    fn a_bare_carriage_return_ends_a_line_that_the_next_overwrites() {
        let expected = [("10 %", End::Overwritten), ("20 %", End::Overwritten), ("done", End::Whole)];
        assert_eq!(split(&[b"10 %\r20 %\rdone\n"]), expected.map(|(text, end)| (text.to_owned(), end)));
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let expected = [("0123456789", End::Cut), ("next", End::Whole)];
        assert_eq!(split(&[b"01234567", b"89a", b"bc\nnext\n"]), expected.map(|(text, end)| (text.to_owned(), end)));
        assert_eq!(split(&[b"0123456789\n"])[0].1, End::Whole);
    }

    #[test]
    fn what_may_be_a_message_has_a_limit_of_its_own() {
        assert_eq!(split(&[b"{123456789", b"0123456789"]), [("{1234567890123456789".to_owned(), End::Whole)]);
        assert_eq!(split(&[b"{123456789", b"0123456789}"])[0].1, End::Cut);
        assert_eq!(split(&[b"  \t{23456789", b"0123456}"])[0].1, End::Whole);
        assert_eq!(split(&[b"           {"])[0], ("          ".to_owned(), End::Cut));
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'{'), Just(b' '), Just(b'x')], 0..80),
            cut in 0_usize..80,
        ) {
            let cut = cut.min(bytes.len());
            let texts = |pieces: &[&[u8]]| split(pieces).into_iter().map(|(text, _)| text).collect::<Vec<_>>();
            prop_assert_eq!(texts(&[&bytes]), texts(&[&bytes[..cut], &bytes[cut..]]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(texts(&[&bytes]), texts(&single));
        }
    }
}
