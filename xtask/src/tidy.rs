//! Proves what ARCHITECTURE.md says of who knows whom, and how files here look.
//!
//! Each check is a pure function from what was read to a list of faults; this file reads and prints.

mod arrows;
mod crates;
mod files;
mod rooms;

use anyhow::{Context, Result, bail, ensure};
use arrows::Arrows;
use std::{fs, path::Path, process::Command};

/// Fails, with every fault, where the house is not in order.
pub(crate) fn check(root: &Path) -> Result<()> {
    let arrows = Arrows::parse(arrows::TABLE)?;
    let mut faults = Vec::new();

    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    if !page.contains(arrows::TABLE.trim()) {
        faults.push(
            "ARCHITECTURE.md: its table of who may know whom must be the one in xtask/src/tidy/arrows.txt".into(),
        );
    }

    let metadata = run(root, env!("CARGO"), &["metadata", "--no-deps", "--offline", "--format-version=1"])?;
    faults.extend(crates::check(&crates::read(&metadata)?, &arrows));

    for path in files(root)? {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        faults.extend(files::check(&path, &text));
        faults.extend(rooms::check(&path, &text, &arrows)?);
    }
    faults.extend(files::stale_exceptions(root));

    faults.iter().for_each(|fault| println!("{fault}"));
    match faults.len() {
        0 => Ok(()),
        n => bail!("{n} {} out of order", if n == 1 { "thing is" } else { "things are" }),
    }
}

/// Every text file of the checkout that is the project's, committed or not yet.
fn files(root: &Path) -> Result<Vec<String>> {
    let listed = run(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut files: Vec<_> = listed.lines().filter(|path| files::concerns(path)).map(str::to_owned).collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).with_context(|| format!("{program} did not answer in UTF-8"))
}
