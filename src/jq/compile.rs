//! From a text to a compiled filter.

use jaq_core::{
    Compiler, load,
    load::{
        Arena, File, Lexer, Loader, Parser,
        parse::{Def, Term},
    },
    native::Fun,
};

use super::{
    Guarded, JqError, guard,
    instrument::{self, Seen},
    natives, regex, sort,
    stack::on_large_stack,
};

/// What the whole filter is called inside.
const MAIN: &str = "meanwhile_main";

/// The longest text of a filter, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Parts of a text inside each other: whatever runs them recurses, also where the stack is small.
const MAX_TEXT_NESTING: usize = 200;

/// Filters of jq that reach beyond their input, or end the program: they do not exist here.
const LEFT_OUT: [&str; 14] = [
    "env",
    "halt",
    "halt_error",
    "input",
    "inputs",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "localtime",
    "strflocaltime",
    "now",
    "get_search_list",
    "input_filename",
];

/// The filter, and how many terms its text has.
pub(super) fn compile(text: &str, variables: &[&str]) -> Result<(jaq_core::Filter<Guarded>, usize), JqError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(JqError::Syntax(format!("it has more than {MAX_TEXT_BYTES} bytes")));
    }
    // Reading and dropping a text recurses as deeply as it is nested.
    on_large_stack(|| compile_here(text, variables))
        .unwrap_or_else(|| Err(JqError::Syntax("it cannot be compiled".to_owned())))
}

fn compile_here(text: &str, variables: &[&str]) -> Result<(jaq_core::Filter<Guarded>, usize), JqError> {
    let main = Def { name: MAIN, args: Vec::new(), body: parse(text)? };
    let mut seen = Seen::default();
    let main = instrument::definition(main, &mut seen);
    if seen.nesting > MAX_TEXT_NESTING {
        return Err(JqError::Syntax(format!(
            "more than {MAX_TEXT_NESTING} of its parts stand inside each other, or are joined by `|`: give some of them a \
             name with `def`"
        )));
    }
    let defined = [instrument::indices()].into_iter().chain(definitions());
    let defined = defined.map(|def| instrument::definition(def, &mut Seen::default()));
    let prelude = defined.chain([main]);
    let arena = Arena::default();
    let unexpected = || JqError::Syntax("it cannot be compiled".to_owned());
    let modules = Loader::new(prelude).load(&arena, File { code: MAIN, path: () }).map_err(|_| unexpected())?;
    let compiler = Compiler::default().with_funs(functions()).with_global_vars(variables.iter().copied());
    let compiled = compiler.compile(modules).map_err(|errors| {
        let undefined = errors.into_iter().flat_map(|(_, errors)| errors).next();
        undefined.map_or_else(unexpected, |(name, what)| {
            let mut message = format!("there is no {} `{name}`", what.as_str());
            if name.starts_with('$') {
                message += &format!("; there are: {}", variables.join(", "));
            }
            JqError::Syntax(message)
        })
    })?;
    Ok((compiled, seen.terms))
}

fn definitions<'s>() -> impl Iterator<Item = Def<&'s str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    // Not `'static`: they stand beside the text that is compiled.
    let shorten = |def: Def<&'static str>| -> Def<&'s str> { def };
    all.filter(|def| !LEFT_OUT.contains(&def.name) && (def.name, def.args.len()) != regex::SUB).map(shorten)
}

fn functions() -> impl Iterator<Item = Fun<Guarded>> {
    let ours = || guard::funs().chain(natives::funs()).chain(regex::funs()).chain(sort::funs());
    let replaced: Vec<_> = ours().map(|(name, args, _)| (name, args.len())).collect();
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let rename = |(name, args, run)| (if name == "indices" { instrument::INDICES } else { name }, args, run);
    all.filter(move |(name, args, _)| !LEFT_OUT.contains(name) && !replaced.contains(&(*name, args.len())))
        .map(rename)
        .chain(ours())
}

fn parse(text: &str) -> Result<Term<&str>, JqError> {
    let place = |part: &str| {
        let before = &text[..load::span(text, part).start];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        format!("at line {} column {}", before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    };
    let tokens = Lexer::new(text).lex().map_err(|errors| {
        let found = errors.into_iter().next().map(|(expected, part)| (expected.as_str(), part));
        let (expected, part) = found.unwrap_or(("filter", text));
        JqError::Syntax(format!("{}: a {expected} is missing or wrong", place(part)))
    })?;
    Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let found = errors.into_iter().next();
        let message = match found {
            Some((expected, Some(token))) => {
                format!("{} stands {:?} where {} is expected", place(token.0), token.0, expected.as_str())
            }
            Some((expected, None)) => format!("it ends where {} is expected", expected.as_str()),
            None => "it is empty".to_owned(),
        };
        JqError::Syntax(message)
    })
}
