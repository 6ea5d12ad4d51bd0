//! Why the program stopped, and the exit code that says so. The codes are those of sysexits.

use std::{
    fmt::Write,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    as_written::AsWritten,
    config::ConfigError,
    store::{OpenError, sqlite::BackupError},
};

/// What can go wrong in the program as a whole. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("{}", listen_message(.address, .error))]
    Listen {
        /// The address.
        address: AsWritten<SocketAddr>,
        /// What the system says.
        error: io::Error,
    },
    /// A new configuration file cannot be written.
    #[error("{}", init_message(.file, .error))]
    Init {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// There is no backup.
    #[error("{0}")]
    Backup(#[from] BackupError),
    /// GraphiQL's local files cannot be used.
    #[error("{0}")]
    Graphiql(String),
    /// Anything else.
    #[error("{0}")]
    Unexpected(String),
}

/// The exit codes, with what they mean to people.
pub const EXIT_CODES: [(u8, &str); 8] = [
    (0, "stopped as asked"),
    (UNEXPECTED, "an unexpected failure"),
    (2, "wrong usage of the command line"),
    (DATAERR, "the data folder was written by a newer version"),
    (NOINPUT, "there is no database to make a backup of"),
    (UNAVAILABLE, "the address cannot be listened on, such as a port in use"),
    (CANTCREAT, "the data folder is in use, or a file or folder cannot be written"),
    (CONFIG, "the configuration is wrong"),
];

const UNEXPECTED: u8 = 1;
const DATAERR: u8 = 65;
const NOINPUT: u8 = 66;
const UNAVAILABLE: u8 = 69;
const CANTCREAT: u8 = 73;
const CONFIG: u8 = 78;

impl StartError {
    /// The exit code that says what went wrong: one of [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Graphiql(_) => CONFIG,
            Self::Listen { .. } => UNAVAILABLE,
            Self::Init { .. } | Self::Store(OpenError::Locked(_) | OpenError::Unusable(_)) => CANTCREAT,
            Self::Store(OpenError::TooNew(_)) | Self::Backup(BackupError::TooNew(_)) => DATAERR,
            Self::Backup(BackupError::Source { .. }) => NOINPUT,
            Self::Backup(BackupError::Exists(_) | BackupError::Target { .. }) => CANTCREAT,
            Self::Unexpected(_) => UNEXPECTED,
        }
    }
}

/// The codes as a part of `--help`.
pub(crate) fn help() -> String {
    EXIT_CODES.iter().fold("Exit codes:\n".to_owned(), |mut text, (code, meaning)| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {code:>2}  {meaning}");
        text
    })
}

fn init_message(file: &Path, error: &io::Error) -> String {
    let file = file.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{file} is there already, and is left as it is: name another file, or move that one away")
        }
        _ => format!("cannot write {file}: {error}; name another file"),
    }
}

fn listen_message(address: &AsWritten<SocketAddr>, error: &io::Error) -> String {
    // Parts of an address from the environment may not show.
    let (port, ip, same_ip) = if address.is_filled() {
        (format!("the port of {address}"), "its address".to_owned(), "ADDRESS".to_owned())
    } else {
        let address = address.expose();
        (format!("port {}", address.port()), address.ip().to_string(), bracketed(*address))
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{port} is in use on {ip}: stop what uses it, or choose another with --listen {same_ip}:PORT")
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not listen on {port}: choose one above 1023 with --listen {same_ip}:PORT")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine does not have the address {}: choose another with --listen, such as 127.0.0.1:8000",
            if address.is_filled() { address.to_string() } else { ip }
        ),
        _ => format!("cannot listen on {address}: {error}; choose another address with --listen ADDRESS:PORT"),
    }
}

/// As it stands before a port.
fn bracketed(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_documented_code_of_its_own() {
        let text = || "text".to_owned();
        let listen = |kind: io::ErrorKind| StartError::Listen {
            address: "127.0.0.1:80".parse::<SocketAddr>().unwrap().into(),
            error: kind.into(),
        };
        let cases = [
            (StartError::Config(ConfigError { location: None, key: None, message: text() }), 78),
            (listen(io::ErrorKind::AddrInUse), 69),
            (StartError::Store(OpenError::Locked(text())), 73),
            (StartError::Store(OpenError::Unusable(text())), 73),
            (StartError::Store(OpenError::TooNew(text())), 65),
            (StartError::Backup(BackupError::TooNew("m.db".into())), 65),
            (StartError::Backup(BackupError::Source { database: "m.db".into(), problem: text() }), 66),
            (StartError::Backup(BackupError::Exists("b.db".into())), 73),
            (StartError::Backup(BackupError::Target { file: "b.db".into(), problem: text() }), 73),
            (StartError::Unexpected(text()), 1),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error:?}");
            assert!(EXIT_CODES.iter().any(|(known, _)| *known == code));
            assert!(help().contains(&code.to_string()));
        }
    }

    #[test]
    fn a_port_that_cannot_be_used_says_what_to_do() {
        for kind in [
            io::ErrorKind::AddrInUse,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::AddrNotAvailable,
            io::ErrorKind::Other,
        ] {
            let address: SocketAddr = "[::1]:80".parse().unwrap();
            let error = StartError::Listen { address: address.into(), error: kind.into() }.to_string();
            assert!(error.contains("--listen") && error.contains("80") && error.lines().count() == 1, "{error}");
            let address = AsWritten::filled(address, "${LISTEN}");
            let error = StartError::Listen { address, error: kind.into() }.to_string();
            assert!(error.contains("--listen") && error.contains("${LISTEN}") && !error.contains("::1"), "{error}");
        }
    }
}
