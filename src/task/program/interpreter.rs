//! Programs whose arguments can be code: input in it could run anything.
//!
//! What is looked for is a name anywhere in the command (`timeout 5 sh -c …` runs a shell, too), and after it the
//! options that take code. A program that runs code in a way of its own is not known here.

/// A program that runs code from its command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// What it is called, without a version's figures.
    names: &'static [&'static str],
    code: Code,
    /// Options, beside those, of which the next argument is the value.
    valued: &'static [&'static str],
    /// How it gets the input all the same.
    pub(super) remedy: &'static str,
}

/// Where its code is.
#[derive(Debug, PartialEq, Eq)]
enum Code {
    /// After a short option with one of these letters, or one of these long ones.
    Option { letters: &'static str, long: &'static [&'static str] },
    /// The same, where options may also come after operands.
    Anywhere { letters: &'static str, long: &'static [&'static str] },
    /// With the option of this letter anywhere, the first argument that is none, as shells have it.
    Operand { letter: char },
    /// The first argument that is no option, unless the code is in a file (the first letters) or after an option (the
    /// second).
    First { file: &'static str, letters: &'static str, long: &'static [&'static str] },
}

const SHELL: &str = "write \"$1\" there, and add \"--\" and the placeholder as further arguments";

const INTERPRETERS: [Interpreter; 11] = [
    Interpreter {
        names: &["sh", "bash", "rbash", "dash", "ash", "ksh", "mksh", "zsh"],
        code: Code::Operand { letter: 'c' },
        valued: &["-o", "-O", "+o", "+O", "--rcfile", "--init-file"],
        remedy: SHELL,
    },
    Interpreter {
        names: &["fish"],
        code: Code::Option { letters: "cC", long: &["--command", "--init-command"] },
        valued: &[],
        remedy: "write $argv[1] there, and add the placeholder as a further argument",
    },
    // They give their code to a shell, wherever the option is.
    Interpreter {
        names: &["su", "runuser", "flock"],
        code: Code::Anywhere { letters: "c", long: &["--command"] },
        valued: &[],
        remedy: "run a script in a file instead",
    },
    Interpreter {
        names: &["python", "pypy"],
        code: Code::Option { letters: "c", long: &[] },
        valued: &["-W", "-X"],
        remedy: "write sys.argv[1] there, and add the placeholder as a further argument",
    },
    Interpreter {
        names: &["perl"],
        code: Code::Option { letters: "eE", long: &[] },
        valued: &["-I", "-M", "-m"],
        remedy: "write $ARGV[0] there, and add \"--\" and the placeholder as further arguments",
    },
    Interpreter {
        names: &["ruby"],
        code: Code::Option { letters: "e", long: &[] },
        valued: &["-I", "-r", "-C"],
        remedy: "write ARGV[0] there, and add \"--\" and the placeholder as further arguments",
    },
    Interpreter {
        names: &["node", "nodejs"],
        code: Code::Option { letters: "ep", long: &["--eval", "--print"] },
        valued: &["-r", "--require", "--import", "-C", "--conditions"],
        remedy: "write process.argv[1] there, and add \"--\" and the placeholder as further arguments",
    },
    Interpreter {
        names: &["php"],
        code: Code::Option { letters: "rBRE", long: &["--run", "--process-begin", "--process-code", "--process-end"] },
        valued: &["-c", "-d", "-z"],
        remedy: "write $argv[1] there, and add \"--\" and the placeholder as further arguments",
    },
    Interpreter {
        names: &["lua", "luajit"],
        code: Code::Option { letters: "e", long: &[] },
        valued: &["-l"],
        remedy: "put the code into a file, write arg[1] there, and add the placeholder as a further argument",
    },
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk"],
        code: Code::First { file: "fE", letters: "e", long: &["--source"] },
        valued: &["-F", "-v", "-i", "-l", "--assign", "--field-separator", "--include"],
        remedy: "write a variable's name there, NAME, and add \"-v\" and \"NAME={input.FIELD}\" before the program",
    },
    Interpreter {
        names: &["sed"],
        code: Code::First { file: "f", letters: "e", long: &["--expression"] },
        valued: &["-l", "--line-length"],
        remedy: "it has no variables: use awk, or a program in a file",
    },
];

/// The interpreter that would run this argument of the command as code, and what it is called there.
pub(super) fn of_code<'a>(command: &[&'a str], at: usize) -> Option<(&'a str, &'static Interpreter)> {
    command.iter().enumerate().take(at).find_map(|(place, program)| {
        let name = program.rsplit('/').next().unwrap_or(program);
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let known = INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&plain))?;
        known.is_code(&command[place + 1..], at - place - 1).then_some((name, known))
    })
}

impl Interpreter {
    /// Whether, of its own arguments, the one there is code.
    fn is_code(&self, arguments: &[&str], at: usize) -> bool {
        let (letters, long, file) = match &self.code {
            Code::Option { letters, long } | Code::Anywhere { letters, long } => (*letters, *long, ""),
            Code::Operand { .. } => ("", &[][..], ""),
            Code::First { letters, long, file } => (*letters, *long, *file),
        };
        let mut code_is_operand = matches!(self.code, Code::First { .. });
        let mut place = 0;
        while place <= at {
            let argument = arguments[place];
            let value = if argument == "--" {
                return code_is_operand && at == place + 1;
            } else if let Some(name) = argument.strip_prefix("--") {
                let (name, attached) = name.split_once('=').map_or((name, false), |(name, _)| (name, true));
                let is = |options: &[&str]| options.iter().any(|option| option.strip_prefix("--") == Some(name));
                code_is_operand &= !(is(long) || (!file.is_empty() && matches!(name, "file" | "exec")));
                match (is(long), attached) {
                    (true, true) if place == at => return true,
                    (true, false) => Value::Code,
                    (false, false) if is(self.valued) || (!file.is_empty() && matches!(name, "file" | "exec")) => {
                        Value::Other
                    }
                    _ => Value::None,
                }
            } else if argument.len() > 1 && (argument.starts_with('-') || argument.starts_with('+')) {
                if self.valued.contains(&argument) {
                    Value::Other
                } else if let Code::Operand { letter, .. } = self.code {
                    code_is_operand |= argument.starts_with('-') && argument.contains(letter);
                    Value::None
                } else {
                    self.cluster(&argument[1..], letters, file, &mut code_is_operand, place == at)
                }
            } else if matches!(self.code, Code::Anywhere { .. }) {
                Value::None
            } else {
                // What follows is for the code, or for the file with it.
                return code_is_operand && place == at;
            };
            match value {
                Value::AttachedCode => return true,
                Value::Code if at == place + 1 => return true,
                Value::Code | Value::Other => place += 2,
                Value::None => place += 1,
            }
        }
        false
    }

    /// Letters of options after one `-`: the first of those that take a value has the rest, or the next argument.
    fn cluster(&self, options: &str, letters: &str, file: &str, code_is_operand: &mut bool, is_last: bool) -> Value {
        for (at, option) in options.char_indices() {
            let rest = &options[at + option.len_utf8()..];
            if letters.contains(option) {
                *code_is_operand = false;
                return match (rest.is_empty(), is_last) {
                    (true, _) => Value::Code,
                    // `-pe`: more letters that take code.
                    (false, false) if rest.chars().all(|next| letters.contains(next)) => Value::Code,
                    (false, true) => Value::AttachedCode,
                    (false, false) => Value::None,
                };
            }
            if file.contains(option) {
                *code_is_operand = false;
                return if rest.is_empty() { Value::Other } else { Value::None };
            }
            if self.valued.iter().any(|valued| valued.strip_prefix('-').is_some_and(|name| name == option.to_string()))
            {
                return if rest.is_empty() { Value::Other } else { Value::None };
            }
        }
        Value::None
    }
}

/// What an option takes.
enum Value {
    None,
    /// Code, in the same argument.
    AttachedCode,
    /// The next argument is code.
    Code,
    /// The next argument, which is no code.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the interpreter that runs the argument with `X` as code.
    fn runs<'a>(command: &[&'a str]) -> Option<&'a str> {
        let at = command.iter().position(|argument| argument.contains('X')).unwrap();
        of_code(command, at).map(|(name, _)| name)
    }

    #[test]
    fn code_is_found_wherever_the_interpreter_is() {
        for (command, name) in [
            (&["/bin/sh", "-c", "ls X"][..], "sh"),
            (&["bash", "-euc", "ls X"], "bash"),
            (&["bash", "-c", "-e", "ls X"], "bash"),
            (&["bash", "-o", "pipefail", "-c", "--", "ls X"], "bash"),
            (&["timeout", "5", "sh", "-c", "echo X"], "sh"),
            (&["env", "A=1", "bash", "-c", "echo X"], "bash"),
            (&["busybox", "sh", "-c", "echo X"], "sh"),
            (&["su", "user", "-c", "echo X"], "su"),
            (&["flock", "lock", "-c", "echo X"], "flock"),
            (&["fish", "--command=echo X"], "fish"),
            (&["python3.11", "-Ic", "print('X')"], "python3.11"),
            (&["python3", "-W", "error", "-cprint('X')"], "python3"),
            (&["perl", "-I", "lib", "-lane", "print X"], "perl"),
            (&["perl", "-Mre", "-e", "print X"], "perl"),
            (&["perl", "-e", "1;", "-E", "say X"], "perl"),
            (&["ruby", "-rjson", "-e", "puts X"], "ruby"),
            (&["node", "-p", "X"], "node"),
            (&["node", "-pe", "X"], "node"),
            (&["node", "-r", "fs", "--eval=X"], "node"),
            (&["node", "--eval", "X"], "node"),
            (&["php8.2", "-d", "a=b", "-r", "echo X;"], "php8.2"),
            (&["lua5.4", "-e", "print(X)"], "lua5.4"),
            (&["awk", "BEGIN { print \"X\" }"], "awk"),
            (&["awk", "-F", ",", "-vn=1", "{ print X }", "file"], "awk"),
            (&["gawk", "--source", "BEGIN { print X }"], "gawk"),
            (&["sed", "-n", "s/a/X/p", "file"], "sed"),
            (&["sed", "-i.bak", "-e", "s/a/X/"], "sed"),
        ] {
            assert_eq!(runs(command), Some(name), "{command:?}");
        }
    }

    #[test]
    fn what_is_no_code_may_hold_the_input() {
        for command in [
            &["sh", "-c", "ls \"$1\"", "--", "X"][..],
            &["sh", "script.sh", "X"],
            &["sh", "script.sh", "-c", "X"],
            &["python3", "work.py", "-c", "X"],
            &["python3", "-c", "import sys", "X"],
            &["python3", "-m", "tool", "X"],
            &["perl", "-e", "print $ARGV[0]", "--", "X"],
            &["node", "work.js", "-p", "X"],
            &["php", "-r", "echo $argv[1];", "--", "X"],
            &["awk", "-v", "name=X", "{ print name }"],
            &["awk", "-F", "X", "{ print $1 }"],
            &["awk", "{ print $1 }", "X"],
            &["awk", "-f", "program.awk", "X"],
            &["sed", "-e", "s/a/b/", "X"],
            &["tar", "-c", "X"],
            &["gcc", "-c", "X"],
        ] {
            assert_eq!(runs(command), None, "{command:?}");
        }
    }
}
