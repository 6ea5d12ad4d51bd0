//! What the end of a program makes of its attempt.

use serde_json::json;

use super::{
    ProgramOptions,
    guard::Exit,
    message::Lost,
    output::{Rest, lost_value},
};
use crate::{
    model::{Json, code},
    task::{JobError, Retry},
};

/// The result, or why there is none.
pub(super) fn outcome(options: &ProgramOptions, exit: Exit, rest: Rest) -> Result<Json, JobError> {
    let listed = |codes: &[u8], exit: i32| codes.iter().any(|code| i32::from(*code) == exit);
    let (ended, code, retry) = match exit {
        Exit::Code(exit) if listed(&options.success_exit_codes, exit) => {
            return match rest.lost_result {
                Some(why) => Err(lost_value(Lost::Result, &why)),
                None => Ok(rest.result.unwrap_or_else(Json::null)),
            };
        }
        Exit::Code(exit) => {
            let never = listed(&options.no_retry_exit_codes, exit);
            let retry = if never { Retry::Never } else { Retry::Backoff };
            (format!("the program ended with exit code {exit}"), code::PROGRAM_FAILED, retry)
        }
        Exit::Signal(signal) => {
            (format!("the program was ended by {}", signal_name(signal)), code::PROGRAM_KILLED, Retry::Backoff)
        }
    };
    let message = rest.last_words.map_or_else(|| ended.clone(), |words| format!("{ended}: {words}"));
    let (exit_code, signal) = match exit {
        Exit::Code(exit) => (Some(exit), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    let details = json!({ "exitCode": exit_code, "signal": signal, "lastLines": rest.last_lines });
    Err(JobError::new(message).code(code).details(details.into()).retry(retry))
}

/// Signals by the names that people know.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    format!("{name} (signal {signal})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::program::CommandTemplate;

    fn options() -> ProgramOptions {
        let mut options = ProgramOptions::new(CommandTemplate::parse(&["true"]).unwrap());
        options.success_exit_codes = vec![0, 3];
        options.no_retry_exit_codes = vec![64];
        options
    }

    #[test]
    fn accepted_exit_codes_complete() {
        for exit in [0, 3] {
            assert_eq!(outcome(&options(), Exit::Code(exit), Rest::default()), Ok(Json::null()));
        }
        let rest = Rest { result: Some(Json::trusted("7")), ..Rest::default() };
        assert_eq!(outcome(&options(), Exit::Code(0), rest).unwrap().as_str(), "7");
    }

    #[test]
    fn other_exit_codes_fail_with_the_last_words() {
        let rest = || Rest {
            result: Some(Json::null()),
            lost_result: None,
            last_lines: vec!["opening".into(), "no such file".into()],
            last_words: Some("no such file".into()),
        };
        let error = outcome(&options(), Exit::Code(1), rest()).unwrap_err();
        assert_eq!(error.to_string(), "the program ended with exit code 1: no such file");
        let details = r#"{"exitCode":1,"signal":null,"lastLines":["opening","no such file"]}"#;
        let expected = JobError::new(error.to_string())
            .code(code::PROGRAM_FAILED)
            .details(Json::parse(details).unwrap())
            .retry(Retry::Backoff);
        assert_eq!(error, expected);
        let error = outcome(&options(), Exit::Code(64), rest()).unwrap_err();
        assert_eq!(error, JobError::retry(error.clone(), Retry::Never));
    }

    #[test]
    fn a_signal_is_named() {
        let error = outcome(&options(), Exit::Signal(11), Rest::default()).unwrap_err();
        assert_eq!(error.to_string(), "the program was ended by SIGSEGV (signal 11)");
        let error = outcome(&options(), Exit::Signal(34), Rest::default()).unwrap_err();
        assert_eq!(error.to_string(), "the program was ended by signal 34");
    }
}
