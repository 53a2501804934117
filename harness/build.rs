//! Puts the scenarios and fixtures into the binary, so that an installed `vmailspec` needs no
//! files beside it: writes lists of `include_str!` that `src/scenario/load.rs`,
//! `src/register.rs` and `src/fixtures.rs` include.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?)
        .join("..")
        .canonicalize()?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    let case = |path: &Path| path.extension().is_some_and(|ending| ending == "case");
    write_list(
        &root.join("scenarios"),
        "SCENARIOS",
        &case,
        &out.join("scenarios.rs"),
    )?;
    let rows = |path: &Path| path.extension().is_some_and(|ending| ending == "txt");
    write_list(
        &root.join("scenarios/register"),
        "REGISTER",
        &rows,
        &out.join("register.rs"),
    )?;
    let text = |path: &Path| fs::read(path).is_ok_and(|octets| String::from_utf8(octets).is_ok());
    write_list(
        &root.join("fixtures"),
        "FIXTURES",
        &text,
        &out.join("fixtures.rs"),
    )?;
    Ok(())
}

/// The files below a folder as a sorted list of their relative names and their texts.
fn write_list(
    folder: &Path,
    name: &str,
    wanted: &dyn Fn(&Path) -> bool,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.retain(|path| wanted(path));
    let mut list = String::new();
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    for path in files {
        let parts: Vec<String> = path
            .strip_prefix(folder)?
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        named.push((parts.join("/"), path));
    }
    named.sort();
    writeln!(list, "static {name}: &[(&str, &str)] = &[")?;
    for (name, path) in named {
        let path = path
            .to_str()
            .ok_or("the path of the sources is not UTF-8")?;
        writeln!(list, "    ({name:?}, include_str!({path:?})),")?;
    }
    writeln!(list, "];")?;
    fs::write(out, list)?;
    Ok(())
}

/// All files below a folder, without hidden ones. Cargo looks at the folders and files again
/// when one of them changed, was added or went away.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
