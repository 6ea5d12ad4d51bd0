//! The files in `examples/deploy`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What the container's build copies from the project's folder.
fn copied() -> Vec<String> {
    let file = fs::read_to_string(project().join("examples/deploy/Containerfile")).unwrap();
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.starts_with("--from"));
    copies.flat_map(|copy| copy.split(' ').rev().skip(1).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            if name != "node_modules" {
                copy(&from.join(&name), &to.join(&name));
            }
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn the_container_is_built_from_all_that_cargo_wants() {
    let folder = tempfile::tempdir().unwrap();
    let ignored = fs::read_to_string(project().join("examples/deploy/Containerfile.dockerignore")).unwrap();
    for name in copied() {
        assert!(ignored.lines().any(|line| line == format!("!{name}")), "{name} is kept out of the build");
        copy(&project().join(&name), &folder.path().join(&name));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--locked", "--depth", "0"]).current_dir(folder.path());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
