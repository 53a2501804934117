//! Wrong servers made of the server's source: `fixtures/wrong/NAME.source` says which piece of which
//! file is right, and what stands there instead. It promises: all of them are in one build, a copy of
//! the sources in which each is a switch; the server that people run holds nothing of this.
//!
//! ```text
//! # What is wrong with this server.
//! # only: PATTERN …
//! # red: CLAUSE …
//!
//! server/daemon/src/queue.rs          # the file that the changes below it are in
//! - the right piece, which the file holds exactly once
//! + what stands there instead
//! ```
//!
//! A piece is an expression, or whole statements. Where it cannot stand in an `if`, the new text
//! says `wrong!()` where it has to know whether it is the one that is wanted, and holds both.
//! Which one that is, `VMAILD_WRONG` says to the copy when it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// One piece of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) file: String,
    pub(crate) right: String,
    pub(crate) wrong: String,
}

/// Reads a `*.source` file; the error holds line and reason.
pub(crate) fn parse(text: &str) -> Result<Vec<Change>, String> {
    let mut changes: Vec<Change> = Vec::new();
    let mut file: Option<&str> = None;
    // Whether the line above belongs to the right piece.
    let mut in_right = false;
    for (number, line) in text.lines().enumerate() {
        let said = |why: &str| format!("{}: {why}", number + 1);
        let body = line.get(2..).unwrap_or_default();
        match line.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'-') => {
                let file = file.ok_or_else(|| said("expected the path of a file first"))?;
                match changes.last_mut().filter(|_| in_right) {
                    Some(change) => {
                        change.right.push('\n');
                        change.right.push_str(body);
                    }
                    None => changes.push(Change {
                        file: file.to_owned(),
                        right: body.to_owned(),
                        wrong: String::new(),
                    }),
                }
            }
            Some(b'+') => {
                let change = changes
                    .last_mut()
                    .ok_or_else(|| said("expected a line `- …` first"))?;
                if !in_right && change.wrong.is_empty() {
                    return Err(said("expected a line `- …` first"));
                }
                if !change.wrong.is_empty() {
                    change.wrong.push('\n');
                }
                change.wrong += body;
            }
            _ => file = Some(line.trim()),
        }
        in_right = line.starts_with('-');
    }
    if changes.is_empty() {
        return Err("1: changes nothing: expected a path, `- RIGHT` and `+ WRONG`".to_owned());
    }
    Ok(changes)
}

/// Makes the changes of the wrong server `name` switches in `files`, path to text.
pub(crate) fn apply(
    name: &str,
    changes: &[Change],
    files: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for change in changes {
        let file = &change.file;
        let text = files
            .get_mut(file)
            .ok_or_else(|| format!("{name}: {file} is no source of the server"))?;
        let found = text.matches(&change.right).count();
        if found != 1 {
            return Err(format!(
                "{name}: {file} holds this {found} times, expected exactly once:\n{}",
                change.right
            ));
        }
        *text = text.replacen(&change.right, &switch(name, change), 1);
    }
    Ok(())
}

/// What stands in the place of the right piece.
fn switch(name: &str, change: &Change) -> String {
    let Change { file, right, wrong } = change;
    let of = if file.starts_with("server/protocol/") {
        "crate"
    } else {
        "vmaild_protocol"
    };
    let wanted = format!("{of}::wrong(\"{name}\")");
    if wrong.contains("wrong!()") {
        return wrong.replace("wrong!()", &wanted);
    }
    if right.trim_end().ends_with([';', '}']) {
        return format!("if {wanted} {{\n{wrong}\n}} else {{\n{right}\n}}");
    }
    format!("(if {wanted} {{ {wrong} }} else {{ {right} }})")
}

/// The top of the workspace.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// The sources of the server with all of these wrong servers in them.
pub(crate) fn sources(servers: &[(String, String)]) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    for part in ["server/protocol", "server/daemon"] {
        collect(&top(), &top().join(part), &mut files).map_err(|error| error.to_string())?;
    }
    for (name, text) in servers {
        let changes = parse(text).map_err(|why| format!("{name}.source:{why}"))?;
        apply(name, &changes, &mut files)?;
    }
    Ok(files)
}

fn collect(top: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(top, &path, files)?;
        } else if let (Ok(name), Ok(text)) = (path.strip_prefix(top), fs::read_to_string(&path)) {
            files.insert(name.to_string_lossy().into_owned(), text);
        }
    }
    Ok(())
}

/// What the copy has that the server has not.
const SWITCH: &str = "
pub fn wrong(name: &str) -> bool {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var(\"VMAILD_WRONG\").unwrap_or_default()) == name
}
";
/// The harness starts its own program, whose first word is `serve`.
const MAIN: &str = include_str!("main.txt");

/// Builds the server with all wrong servers in it; returns the program.
pub(crate) fn build(servers: &[(String, String)]) -> Result<PathBuf, String> {
    let mut files = sources(servers)?;
    // Its dependencies are those of the workspace, with the same features: they are built already.
    // What the harness's manifest names has to be there, and is not built.
    let tests = top().join("harness/tests");
    collect(&top(), &tests, &mut files).map_err(|error| error.to_string())?;
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "harness/Cargo.toml",
        "harness/build.rs",
        "harness/src/lib.rs",
        "harness/src/main.rs",
    ] {
        let text = fs::read_to_string(top().join(file));
        files.insert(file.to_owned(), text.map_err(|error| error.to_string())?);
    }
    for (file, change) in [
        ("server/protocol/src/lib.rs", SWITCH),
        ("server/daemon/src/lib.rs", ""),
    ] {
        let text = files.entry(file.to_owned()).or_default();
        *text = format!("#![allow(warnings)]\n{text}{change}").replace("#![no_std]", "");
    }
    files.insert("server/daemon/src/main.rs".to_owned(), MAIN.to_owned());
    let manifest = files.entry("server/daemon/Cargo.toml".to_owned());
    let manifest = manifest.or_default();
    *manifest = manifest.replace(
        "[[bin]]\nname = \"vmaild\"",
        "[[bin]]\nname = \"vmaild-wrong\"",
    );
    // Of another version, or cargo took the server's own libraries for the copy's.
    for file in ["Cargo.toml", "Cargo.lock"] {
        let text = files.entry(file.to_owned()).or_default();
        for before in [
            "[workspace.package]",
            "name = \"vmaild\"",
            "name = \"vmaild-protocol\"",
            "name = \"vmailspec\"",
        ] {
            let version = |number: &str| format!("{before}\nversion = \"{number}\"");
            *text = text.replace(&version(env!("CARGO_PKG_VERSION")), &version("0.0.0"));
        }
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let copy = target.join("wrong");
    for (file, text) in &files {
        let path = copy.join(file);
        // What is as it was is not built again.
        if !fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            fs::create_dir_all(path.parent().unwrap()).map_err(|error| error.to_string())?;
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says of this test's own package would have build scripts run again.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    let output = command
        .args(["build", "--locked", "--quiet", "--workspace"])
        .args(["--bin", "vmaild-wrong", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(&copy)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{} does not compile:\n{}",
            copy.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(target
        .join(profile.replace("dev", "debug"))
        .join("vmaild-wrong"))
}
