//! The files of npm packages that the page is made of.

use std::{
    collections::BTreeMap,
    fs::File as Opened,
    io::{self, Read},
    path::PathBuf,
};

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha384};

use crate::as_written::AsWritten;

/// The largest file that is read from a folder; GraphiQL's script is 1 MiB.
const MAX_FILE_BYTES: u64 = 8 << 20;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLES: &str = "text/css; charset=utf-8";

/// A file as it stands in an npm package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// Inside the package.
    pub(super) path: &'static str,
    /// The SHA-384 of its content, as browsers write it.
    pub(super) integrity: &'static str,
    pub(super) media_type: &'static str,
}

/// In the order in which scripts have to run.
pub(super) const FILES: [File; 5] = [
    File {
        package: "graphiql",
        version: "4.1.2",
        path: "graphiql.min.css",
        integrity: "sha384-1el1QShFBnnXTx9x/Cprg82hZWKt0ry29OAYIXt05swbi0KcZDFoj0CWguMpopJr",
        media_type: STYLES,
    },
    File {
        package: "react",
        version: "18.3.1",
        path: "umd/react.production.min.js",
        integrity: "sha384-DGyLxAyjq0f9SPpVevD6IgztCFlnMF6oW/XQGmfe+IsZ8TqEiDrcHkMLKI6fiB/Z",
        media_type: SCRIPT,
    },
    File {
        package: "react-dom",
        version: "18.3.1",
        path: "umd/react-dom.production.min.js",
        integrity: "sha384-gTGxhz21lVGYNMcdJOyq01Edg0jhn/c22nsx0kyqP0TxaV5WVdsSH1fSDUf5YJj1",
        media_type: SCRIPT,
    },
    File {
        package: "graphql-ws",
        version: "6.4.2",
        path: "umd/graphql-ws.min.js",
        integrity: "sha384-mxvR4Mzbsb6QVx/9xI2gtQikQA6m8zMDBFnu3l//4/ROsWt7y2sUGWd+/tYQqDm7",
        media_type: SCRIPT,
    },
    File {
        package: "graphiql",
        version: "4.1.2",
        path: "graphiql.min.js",
        integrity: "sha384-9XdHu7ajgGJziD4J1zNBKQ842Q/+zZfDv+ib1eMhZWBH6hPAs806x+Jbcf0yNO6B",
        media_type: SCRIPT,
    },
];

impl File {
    /// Its name below the address of a CDN, or of our own assets: `react@18.3.1/umd/react.production.min.js`.
    pub(super) fn name(&self) -> String {
        format!("{}@{}/{}", self.package, self.version, self.path)
    }

    pub(super) fn is_script(&self) -> bool {
        self.media_type == SCRIPT
    }
}

/// A file with its content, which is the expected one.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) file: &'static File,
    pub(super) content: Bytes,
}

/// The command that gets all packages into a folder.
pub(super) fn install_command(folder: &str) -> String {
    let packages: BTreeMap<_, _> = FILES.iter().map(|file| (file.package, file.version)).collect();
    let packages: Vec<_> = packages.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    format!("npm install --prefix {folder} {}", packages.join(" "))
}

/// Reads all files from a folder, or from the `node_modules` in it.
pub(super) fn load(folder: &AsWritten<PathBuf>) -> Result<Vec<Loaded>, String> {
    let modules = folder.join("node_modules");
    let root = if modules.expose().is_dir() { &modules } else { folder };
    let load = |file: &'static File| {
        let path = root.join(file.package).join(file.path);
        let advice = || install_command(&folder.to_string());
        let problem = |what: String| format!("GraphiQL's file {path} {what}; get it with: {}", advice());
        let content = read(path.expose()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => problem("is missing".to_owned()),
            _ => problem(format!("cannot be read ({error})")),
        })?;
        if integrity(&content) != file.integrity {
            return Err(problem(format!("is not the one of {} {}", file.package, file.version)));
        }
        Ok(Loaded { file, content: content.into() })
    };
    FILES.iter().map(load).collect()
}

/// Reads a file, but not further than one byte past the limit: what is that long has another hash anyway.
fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    Opened::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn integrity(content: &[u8]) -> String {
    format!("sha384-{}", STANDARD.encode(Sha384::digest(content)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_empty_folder_is_told_which_file_it_lacks_and_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&folder.path().into()).unwrap_err();
        assert!(error.contains("graphiql/graphiql.min.css is missing"), "{error}");
        let command = "graphiql@4.1.2 graphql-ws@6.4.2 react@18.3.1 react-dom@18.3.1";
        assert!(error.ends_with(&format!("npm install --prefix {} {command}", folder.path().display())), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        for modules in ["", "node_modules"] {
            let folder = tempfile::tempdir().unwrap();
            let package = folder.path().join(modules).join("graphiql");
            fs::create_dir_all(&package).unwrap();
            fs::write(package.join("graphiql.min.css"), "body {}").unwrap();
            let error = load(&folder.path().into()).unwrap_err();
            assert!(error.contains("graphiql.min.css is not the one of graphiql 4.1.2; get it with: npm"), "{error}");
        }
    }

    #[test]
    fn a_folder_where_a_file_should_be_is_an_error_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("graphiql/graphiql.min.css")).unwrap();
        let error = load(&folder.path().into()).unwrap_err();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn hashes_are_written_as_browsers_expect_them() {
        // The value that `openssl dgst -sha384 -binary | base64` gives for "abc".
        let expected = "sha384-ywB1P0WjXou1oD1pmsZQBycsMqsO3tFjGotgWkP/W+2AhgcroefMI1i67KE0yCWn";
        assert_eq!(integrity(b"abc"), expected);
    }
}
