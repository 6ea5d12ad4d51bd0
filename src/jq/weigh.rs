//! How large and how deep values are, found without recursion.

use jaq_json::Val;

/// Values looked at between two looks at the time.
const VALUES_PER_LOOK: usize = 4096;

/// Why a value may not be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heavy {
    /// Too many lists and objects inside each other.
    Deep,
    /// Too much inside it.
    Large,
    /// There was no time to look at all of it.
    Late,
}

/// What a value takes as JSON text, in bytes, at least about.
const VALUE_BYTES: usize = 4;

/// How large a value is with all that is inside it. What stands in several places counts in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weight {
    /// The values inside it.
    pub(super) values: usize,
    /// The texts, the value itself included, in bytes.
    pub(super) text_bytes: usize,
}

impl Weight {
    /// About what it takes as JSON text, and what comparing it takes, in bytes.
    pub(super) fn bytes(self) -> usize {
        self.values.saturating_mul(VALUE_BYTES).saturating_add(self.text_bytes)
    }

    fn add(&mut self, value: &Val) {
        if let Val::TStr(text) | Val::BStr(text) = value {
            self.text_bytes = self.text_bytes.saturating_add(text.len());
        }
    }
}

/// The value's weight, if that is at most so many bytes, and it is at most so deep.
pub(super) fn weigh(
    value: &Val,
    max_bytes: usize,
    max_depth: usize,
    is_over: impl Fn() -> bool,
) -> Result<Weight, Heavy> {
    let mut path: Vec<Box<dyn Iterator<Item = &Val> + '_>> = Vec::new();
    path.extend(inside(value));
    let mut weight = Weight::default();
    weight.add(value);
    while let Some(innermost) = path.last_mut() {
        let Some(next) = innermost.next() else {
            path.pop();
            continue;
        };
        weight.values += 1;
        weight.add(next);
        if weight.bytes() > max_bytes {
            return Err(Heavy::Large);
        }
        if weight.values.is_multiple_of(VALUES_PER_LOOK) && is_over() {
            return Err(Heavy::Late);
        }
        if let Some(inner) = inside(next) {
            if path.len() >= max_depth {
                return Err(Heavy::Deep);
            }
            path.push(inner);
        }
    }
    if weight.bytes() > max_bytes { Err(Heavy::Large) } else { Ok(weight) }
}

/// The values in a list or an object; nothing when it is neither, or empty.
fn inside(value: &Val) -> Option<Box<dyn Iterator<Item = &Val> + '_>> {
    match value {
        Val::Arr(items) if !items.is_empty() => Some(Box::new(items.iter())),
        // Keys are values too.
        Val::Obj(entries) if !entries.is_empty() => Some(Box::new(entries.iter().flat_map(|(k, v)| [k, v]))),
        _ => None,
    }
}

/// What a text of JSON would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outline {
    /// How deep brackets stand inside each other.
    pub(super) nesting: usize,
    /// The longest run of digits.
    pub(super) digits: usize,
    /// Lists and objects.
    pub(super) containers: usize,
    /// Commas and colons: with the lists and objects, about as many as there are values.
    pub(super) separators: usize,
}

/// Looks through a text that is, or is not, JSON. What stands in texts does not count, and neither do the comments that
/// jaq allows.
pub(super) fn outline(text: &[u8]) -> Outline {
    let mut outline = Outline::default();
    let (mut depth, mut digits, mut in_text, mut escaped, mut in_comment) = (0_usize, 0_usize, false, false, false);
    for byte in text {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        if in_comment {
            in_comment = *byte != b'\n';
            continue;
        }
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        outline.digits = outline.digits.max(digits);
        match byte {
            b'"' => in_text = true,
            b'#' => in_comment = true,
            b'[' | b'{' => {
                depth += 1;
                outline.containers += 1;
                outline.nesting = outline.nesting.max(depth);
            }
            b',' | b':' => outline.separators += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    outline
}

#[cfg(test)]
mod tests {
    use super::{outline as outline_of, *};

    fn value(text: &str) -> Val {
        jaq_json::read::parse_single(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_value_inside_counts_and_so_do_keys_and_texts() {
        let weigh = |text, max_bytes, max_depth| {
            weigh(&value(text), max_bytes, max_depth, || false).map(|weight| (weight.values, weight.text_bytes))
        };
        assert_eq!(weigh("1", 0, 0), Ok((0, 0)));
        assert_eq!(weigh("[]", 0, 0), Ok((0, 0)));
        assert_eq!(weigh("\"abc\"", 3, 0), Ok((0, 3)));
        assert_eq!(weigh("\"abc\"", 2, 0), Err(Heavy::Large));
        assert_eq!(weigh("[1,[2,3]]", 16, 2), Ok((4, 0)));
        assert_eq!(weigh("[1,[2,3]]", 15, 2), Err(Heavy::Large));
        assert_eq!(weigh("[1,[2,3]]", 16, 1), Err(Heavy::Deep));
        assert_eq!(weigh("{\"a\":{\"b\":\"xy\"}}", 20, 2), Ok((4, 4)));
        assert_eq!(weigh("{\"a\":{\"b\":\"xy\"}}", 19, 2), Err(Heavy::Large));
    }

    #[test]
    fn what_stands_in_many_places_counts_in_each_and_is_given_up_when_the_time_is_over() {
        let doubled = (0..60).fold(value("1"), |inner, _| [inner.clone(), inner].into_iter().collect());
        assert_eq!(weigh(&doubled, 1_000_000, 100, || false), Err(Heavy::Large));
        assert_eq!(weigh(&doubled, usize::MAX, 100, || true), Err(Heavy::Late));
        let text = value(&format!("\"{}\"", "x".repeat(1000)));
        let many: Val = std::iter::repeat_n(text, 1000).collect();
        assert_eq!(weigh(&many, 1_000_000, 100, || false), Err(Heavy::Large));
    }

    #[test]
    fn brackets_and_digits_are_counted_outside_of_texts() {
        let outline = |text: &str| {
            let Outline { nesting, digits, .. } = outline_of(text.as_bytes());
            (nesting, digits)
        };
        assert_eq!(outline("12"), (0, 2));
        assert_eq!(outline("[{\"a\":[1]}, 1234.5e67]"), (3, 4));
        assert_eq!(outline("\"[[[123\\\"[[\""), (0, 0));
        assert_eq!(outline("[\"\\\\\",[1]]"), (2, 1));
        assert_eq!(outline("]]][["), (2, 0));
        assert_eq!(outline("# \" [[\n [12"), (1, 2));
        let counted = outline_of(b"[{\"a\":[1,\",[\"]}, 2]");
        assert_eq!((counted.containers, counted.separators), (3, 3));
    }
}
