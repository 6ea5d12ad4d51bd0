//! Who gets in: what `[server]` and `[server.cors]` say about it.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::{ConfigError, ServerConfig, section::Section};
use crate::{
    as_written::AsWritten,
    http::{AccessOptions, Token},
};

/// The largest file that is read as a token, in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 16 << 10;

/// Reads `allowed_hosts` and `[server.cors]`.
pub(super) fn read(section: &mut Section<'_>, access: &mut AccessOptions) -> Result<(), ConfigError> {
    access.allowed_hosts = texts(section, "allowed_hosts", |host| {
        (!host.contains(['/', ':', ' '])).then(|| host.to_owned()).ok_or("a host name without a port")
    })?;
    let mut cors = section.section("cors")?;
    access.allowed_origins = texts(&mut cors, "allowed_origins", |origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let fits = origin == "*" || authority.is_some_and(|name| !name.is_empty() && !name.contains(['/', ' ', '*']));
        fits.then(|| origin.to_ascii_lowercase()).ok_or("an origin, such as \"https://app.example.com\", or \"*\"")
    })?;
    cors.finish()
}

/// A list of texts that fit.
fn texts(
    section: &mut Section<'_>,
    key: &'static str,
    read: impl Fn(&str) -> Result<String, &'static str>,
) -> Result<Vec<String>, ConfigError> {
    let Some(value) = section.json(key)? else { return Ok(Vec::new()) };
    let Value::Array(values) = &value else { return Err(section.error(key, "must be a list of texts")) };
    let read = |value: &Value| match value {
        Value::String(text) => read(text).map_err(|what| section.error(key, format!("{text:?} is not {what}"))),
        other => Err(section.error(key, format!("must be a list of texts, and {other} is none"))),
    };
    values.iter().map(read).collect()
}

impl ServerConfig {
    /// Who gets in, with the token from its file. Refuses to let everybody in who can reach this machine, unless that
    /// is what is wanted.
    pub fn access(&self) -> Result<AccessOptions, ConfigError> {
        let mut access = self.http.access.clone();
        if let (None, Some(file)) = (&access.token, &self.token_file) {
            access.token = Some(read_token(file)?);
        }
        access.loopback_only = self.listen.expose().ip().is_loopback();
        if access.loopback_only || access.token.is_some() || self.insecure {
            return Ok(access);
        }
        let message = format!(
            "{} can be reached from other machines, by anybody: name a token with --token-file FILE, or in \
             MEANWHILE_TOKEN, or listen on 127.0.0.1, or say --insecure if others keep them out",
            self.listen
        );
        Err(ConfigError { location: None, key: Some("server.listen".to_owned()), message })
    }
}

fn read_token(file: &AsWritten<PathBuf>) -> Result<Token, ConfigError> {
    let wrong = |what: String| {
        let message = format!("{file}: {what}");
        ConfigError { location: None, key: Some("server.token_file".to_owned()), message }
    };
    let size = fs::metadata(file.expose()).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if size > MAX_TOKEN_FILE_BYTES {
        return Err(wrong("is too large for a token".to_owned()));
    }
    let text = fs::read_to_string(file.expose()).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Token::new(&text).map_err(|what| wrong(format!("{what}; make one with: openssl rand -hex 32")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TOKEN: &str = "0123456789abcdef";

    fn server(text: &str) -> ServerConfig {
        Config::parse("m.toml", text).unwrap().server
    }

    #[test]
    fn beyond_the_loopback_a_token_is_needed_or_the_word_insecure() {
        for (listen, others) in
            [("127.0.0.1:1", false), ("[::1]:1", false), ("0.0.0.0:1", true), ("[::]:1", true), ("10.0.0.1:1", true)]
        {
            let mut server = server(&format!("[server]\nlisten = \"{listen}\""));
            assert_eq!(server.access().is_err(), others, "{listen}");
            server.insecure = true;
            assert_eq!(server.access().unwrap().loopback_only, !others);
            server.insecure = false;
            server.http.access.token = Token::new(TOKEN).ok();
            assert!(server.access().is_ok());
        }
        let error = server("[server]\nlisten = \"0.0.0.0:80\"").access().unwrap_err().to_string();
        for word in ["server.listen", "0.0.0.0:80", "--token-file", "MEANWHILE_TOKEN", "--insecure"] {
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn the_token_is_read_from_its_file_and_what_is_wrong_with_it_told_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let server = ServerConfig { token_file: Some((&file).into()), ..ServerConfig::default() };
        assert!(server.access().unwrap_err().to_string().contains("cannot be read"));
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        assert!(server.access().unwrap().token.unwrap().is(TOKEN));
        fs::write(&file, "too short").unwrap();
        let error = server.access().unwrap_err().to_string();
        assert!(error.contains("16") && error.contains("openssl") && !error.contains("too short"), "{error}");
    }

    #[test]
    fn origins_and_hosts_are_lists_of_such() {
        let server = server(
            "[server]\nallowed_hosts = [\"api.example\"]\n[server.cors]\nallowed_origins = [\"https://App.example:1\", \"*\"]",
        );
        assert_eq!(server.http.access.allowed_hosts, ["api.example"]);
        assert_eq!(server.http.access.allowed_origins, ["https://app.example:1", "*"]);
        for (text, expected) in [
            (
                "[server]\nallowed_hosts = [\"a:80\"]",
                "m.toml:2:17: `server.allowed_hosts`: \"a:80\" is not a host name",
            ),
            (
                "[server.cors]\nallowed_origins = [\"a.example\"]",
                "`server.cors.allowed_origins`: \"a.example\" is not an",
            ),
            ("[server.cors]\nallowed_origins = [\"https://a.example/\"]", "is not an origin"),
            ("[server.cors]\nallowed_origins = \"*\"", "must be a list of texts"),
            ("[server.cors]\nallowed_origins = [1]", "must be a list of texts, and 1 is none"),
        ] {
            let error = Config::parse("m.toml", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
