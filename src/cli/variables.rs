//! The environment variables of flags.

use std::env;

use clap::{Arg, Command, builder::Resettable, error::ContextKind};

/// Takes variables that are set but empty out of a definition: they say nothing, like unset ones.
pub(super) fn without_empty(command: Command) -> Command {
    let drop_empty = |arg: Arg| {
        let empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(drop_empty).mut_subcommands(move |command| command.mut_args(drop_empty))
}

/// The variable that gave the value that an error is about, when none of `args` did.
pub(super) fn to_blame(error: &clap::Error, command: &Command, args: &[String]) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let name = flag.split_whitespace().next()?.trim_start_matches("--").to_owned();
    let typed = |arg: &String| arg.strip_prefix("--").is_some_and(|arg| arg.split('=').next() == Some(&name));
    if args.iter().any(typed) {
        return None;
    }
    let mut known = command.get_subcommands().chain([command]).flat_map(Command::get_arguments);
    let variable = known.find(|arg| arg.get_long() == Some(&name))?.get_env()?;
    env::var_os(variable).map(|_| variable.to_string_lossy().into_owned())
}
