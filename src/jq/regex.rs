//! Matching within the limits of a run: the natives of jaq cannot be stopped, and make all they find at once.

use jaq_core::{
    Bind, Cv, Error, Exn, Native, ValR, ValT as _, ValX, box_iter,
    native::{Fun, v},
};
use jaq_json::Val;
use jaq_std::ValT as _;
use regex_bites::bytes::{Captures, Regex, RegexBuilder};

use super::{
    Guarded,
    guard::{CONTAINER_BYTES, ENTRY_BYTES, Guard, ITEM_BYTES, OVER_PATTERN, within},
};

/// The longest text times the largest pattern, both in bytes, the latter as it is compiled: looking for one match takes
/// about half a nanosecond for each of them.
const MAX_MATCH_WORK: usize = 128 << 20;
/// The largest pattern, in bytes as it is compiled.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// The most groups of a pattern: who matches remembers all of them for each of its parts.
const MAX_GROUPS: usize = 64;

pub(super) fn funs() -> impl Iterator<Item = Fun<Guarded>> {
    let matches = Native::<Guarded>::new(|cv| box_iter::box_once(run(cv, Wanted { between: false, matches: true })));
    let split = Native::<Guarded>::new(|cv| box_iter::box_once(run(cv, Wanted { between: true, matches: false })));
    let both = Native::<Guarded>::new(|cv| box_iter::box_once(run(cv, Wanted { between: true, matches: true })));
    let sub = Native::<Guarded>::new(|cv| match substituted(cv) {
        Ok(texts) => Box::new(texts.into_iter().map(|text| Ok(Val::utf8_str(text)))),
        Err(stop) => box_iter::box_once(Err(stop)),
    });
    let sub_args = [Bind::Var(()), Bind::Fun(()), Bind::Var(())].into();
    [("matches", v(2), matches), ("split_", v(2), split), ("split_matches", v(2), both), (SUB.0, sub_args, sub)]
        .into_iter()
}

/// The definition of jaq that is a native here, with the number of its arguments.
pub(super) const SUB: (&str, usize) = ("sub", 3);

/// What is made of a text: a list of its matches, or of what is between them, or both as they stand there.
#[derive(Clone, Copy)]
struct Wanted {
    between: bool,
    matches: bool,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    global: bool,
    not_empty: bool,
    ignore_case: bool,
    multi_line: bool,
    dot_matches_new_line: bool,
    swap_greed: bool,
    ignore_whitespace: bool,
}

impl Flags {
    fn parse(text: &str) -> ValR<Self, Val> {
        let mut flags = Self::default();
        for flag in text.chars() {
            match flag {
                'g' => flags.global = true,
                'n' => flags.not_empty = true,
                'i' => flags.ignore_case = true,
                'm' => flags.multi_line = true,
                's' => flags.dot_matches_new_line = true,
                'l' => flags.swap_greed = true,
                'x' => flags.ignore_whitespace = true,
                'p' => (flags.multi_line, flags.dot_matches_new_line) = (true, true),
                other => return Err(Error::str(format_args!("invalid regex flag: {other}"))),
            }
        }
        Ok(flags)
    }

    fn build(self, pattern: &str, max_compiled_bytes: usize) -> Result<Regex, regex_bites::Error> {
        RegexBuilder::new(pattern)
            .case_insensitive(self.ignore_case)
            .multi_line(self.multi_line)
            .dot_matches_new_line(self.dot_matches_new_line)
            .swap_greed(self.swap_greed)
            .ignore_whitespace(self.ignore_whitespace)
            .size_limit(max_compiled_bytes)
            .build()
    }
}

fn run<'a>(mut cv: Cv<'a, Guarded>, wanted: Wanted) -> ValX<'a, Val> {
    let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
    Ok(find(cv.0.data(), &cv.1, &pattern, &flags, wanted)?.into_iter().collect())
}

fn find<'e>(
    guard: &Guard<'_>,
    value: &Val,
    pattern: &Val,
    flags: &Val,
    wanted: Wanted,
) -> Result<Vec<Val>, Exn<'e, Val>> {
    guard.pattern(flags)?;
    guard.pattern(pattern)?;
    let flags = Flags::parse(text(flags)?)?;
    let bytes = value.as_utf8_bytes().ok_or_else(|| Error::typ(value.clone(), "string"))?;
    let regex = compile(guard, flags, text(pattern)?, bytes.len())?;
    let mut found = Found { guard, value, bytes, regex: &regex, counted: (0, 0) };

    let mut parts = Vec::new();
    let mut after = 0;
    let mut captures = regex.captures_iter(bytes);
    loop {
        guard.look()?;
        let Some(captures) = captures.next() else { break };
        let Some(whole) = captures.get(0) else { continue };
        if flags.not_empty && whole.is_empty() {
            continue;
        }
        if wanted.between {
            parts.push(found.between(after, whole.start())?);
            after = whole.end();
        }
        if wanted.matches {
            parts.push(found.matched(&captures)?);
        }
        if !flags.global {
            break;
        }
    }
    if wanted.between {
        parts.push(found.between(after, bytes.len())?);
    }
    Ok(parts)
}

/// The text with something else in the places of its matches: what the argument gives for the groups of each. When it
/// gives several values there are several texts.
///
/// jaq puts the text together piece by piece, and copies it each time.
fn substituted<'a>(mut cv: Cv<'a, Guarded>) -> Result<Vec<Vec<u8>>, Exn<'a, Val>> {
    let guard = *cv.0.data();
    let flags = cv.0.pop_var();
    let (substitute, context) = cv.0.pop_fun();
    let pattern = cv.0.pop_var();
    let mut texts = vec![Vec::new()];
    for part in find(guard, &cv.1, &pattern, &flags, Wanted { between: true, matches: true })? {
        let mut pieces = Vec::new();
        match part {
            Val::Arr(groups) => {
                for piece in substitute.run((context.clone(), captured(guard, &groups)?)) {
                    guard.spend(ITEM_BYTES)?;
                    pieces.push(piece?);
                }
            }
            between => pieces.push(between),
        }
        texts = appended(guard, texts, &pieces)?;
    }
    Ok(texts)
}

/// An object of the groups that have a name.
fn captured<'e>(guard: &Guard<'_>, groups: &[Val]) -> ValX<'e, Val> {
    guard.spend(groups.len().saturating_mul(ENTRY_BYTES))?;
    let (name, string) = (Val::utf8_str("name"), Val::utf8_str("string"));
    let named = groups.iter().filter_map(|group| match group {
        Val::Obj(fields) => Some((fields.get(&name)?.clone(), fields.get(&string)?.clone())),
        _ => None,
    });
    Ok(Val::from_map(named)?)
}

/// Each text with each piece behind it.
fn appended<'e>(guard: &Guard<'_>, mut texts: Vec<Vec<u8>>, pieces: &[Val]) -> Result<Vec<Vec<u8>>, Exn<'e, Val>> {
    let add = |text: &mut Vec<u8>, piece: &Val| {
        let bytes = match piece {
            Val::TStr(bytes) => &***bytes,
            Val::Null => &[],
            // It says why not.
            other => return (Val::utf8_str("") + other.clone()).map(drop).map_err(Exn::from),
        };
        guard.check()?;
        guard.work(bytes.len())?;
        guard.spend(bytes.len())?;
        guard.fits(text.len() + bytes.len())?;
        text.extend_from_slice(bytes);
        Ok(())
    };
    if let [piece] = pieces {
        for text in &mut texts {
            add(text, piece)?;
        }
        return Ok(texts);
    }
    let mut all = Vec::new();
    for text in texts {
        for piece in pieces {
            guard.work(text.len())?;
            guard.spend(text.len() + CONTAINER_BYTES)?;
            let mut text = text.clone();
            add(&mut text, piece)?;
            all.push(text);
        }
    }
    Ok(all)
}

fn text(value: &Val) -> ValR<&str, Val> {
    let bytes = value.as_utf8_bytes().ok_or_else(|| Error::typ(value.clone(), "string"))?;
    std::str::from_utf8(bytes).map_err(Error::str)
}

/// A pattern that a text of so many bytes may be matched with.
fn compile<'e>(guard: &Guard<'_>, flags: Flags, pattern: &str, text_bytes: usize) -> Result<Regex, Exn<'e, Val>> {
    guard.look()?;
    let groups = pattern.matches('(').count();
    within(groups <= MAX_GROUPS, OVER_PATTERN)?;
    let max_bytes = MAX_MATCH_WORK / text_bytes.max(1) / (groups + 1);
    match flags.build(pattern, max_bytes.min(MAX_COMPILED_BYTES)) {
        Ok(regex) => Ok(regex),
        // Whether it is wrong, or only too large for this text.
        Err(_) => match flags.build(pattern, MAX_COMPILED_BYTES) {
            Ok(_) => Err(Exn::halt(OVER_PATTERN)),
            Err(error) => Err(Error::str(format_args!("invalid regex: {error}")).into()),
        },
    }
}

/// Makes values of what was found in a text.
struct Found<'f> {
    guard: &'f Guard<'f>,
    value: &'f Val,
    bytes: &'f [u8],
    regex: &'f Regex,
    /// So many characters stand before so many bytes.
    counted: (usize, usize),
}

impl Found<'_> {
    fn between<'e>(&self, from: usize, until: usize) -> ValX<'e, Val> {
        self.guard.spend(CONTAINER_BYTES)?;
        Ok(self.value.as_sub_str(&self.bytes[from..until]))
    }

    /// The match and its groups.
    fn matched<'e>(&mut self, captures: &Captures<'_>) -> ValX<'e, Val> {
        let mut groups = Vec::new();
        for (group, name) in captures.iter().zip(self.regex.capture_names()) {
            let Some(group) = group else { continue };
            // Two numbers, and a text or two.
            self.guard.spend(4 * ENTRY_BYTES + 3 * CONTAINER_BYTES)?;
            let offset = self.characters_before(group.start())?;
            let length = self.characters(group.start(), group.end())?;
            let mut fields = vec![
                (Val::utf8_str("offset"), Val::from(offset)),
                (Val::utf8_str("length"), Val::from(length)),
                (Val::utf8_str("string"), self.value.as_sub_str(&self.bytes[group.range()])),
            ];
            fields.extend(name.map(|name| (Val::utf8_str("name"), Val::utf8_str(name.to_owned()))));
            groups.push(Val::from_map(fields)?);
        }
        Ok(groups.into_iter().collect())
    }

    /// Counts on from where it was counted before: a group can also begin before another that stands before it.
    fn characters_before<'e>(&mut self, at: usize) -> Result<usize, Exn<'e, Val>> {
        let (characters, bytes) = self.counted;
        let before = if at >= bytes {
            characters + self.characters(bytes, at)?
        } else {
            characters - self.characters(at, bytes)?
        };
        self.counted = (before, at);
        Ok(before)
    }

    fn characters<'e>(&self, from: usize, until: usize) -> Result<usize, Exn<'e, Val>> {
        self.guard.work(until - from)?;
        Ok(String::from_utf8_lossy(&self.bytes[from..until]).chars().count())
    }
}
