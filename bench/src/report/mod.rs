//! What is made of results: tables, verdicts, plots, a page. Must not measure.

mod page;
mod plots;
mod svg;
mod tables;
mod targets;
mod variations;

use crate::results::Results;
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// For a terminal.
pub(crate) fn text(results: &Results) -> String {
    let tables = tables::all(results);
    let texts = tables.iter().map(tables::Table::text).chain(tables::failures(results));
    texts.collect::<Vec<_>>().join("\n")
}

/// Writes `performance.md`, its plots and the values behind them into the folder of the documentation.
///
/// # Errors
///
/// A file cannot be written.
pub(crate) fn write(results: &Results, docs: &Path) -> Result<()> {
    let folder = docs.join(page::PLOTS);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let plots = plots::all(results);
    for plot in &plots {
        fs::write(folder.join(plot.file), &plot.svg)?;
    }
    fs::write(folder.join("results.json"), serde_json::to_vec_pretty(results)?)?;
    let path = docs.join("performance.md");
    fs::write(&path, page::page(results, &plots)).with_context(|| format!("cannot write {}", path.display()))
}
