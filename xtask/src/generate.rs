//! Files whose truth is elsewhere: each is a path and a pure function that gives its content.

mod diff;
mod fields;
mod manifest;
mod settings;

use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// A file that is generated.
struct Generated {
    /// Path within the checkout.
    path: String,
    content: String,
}

/// Writes every generated file that is not already what it should be.
pub(crate) fn write(root: &Path) -> Result<()> {
    for Generated { path, content } in everything()? {
        let file = root.join(&path);
        if fs::read_to_string(&file).is_ok_and(|old| old == content) {
            continue;
        }
        let folder = file.parent().with_context(|| format!("{path} is in no folder"))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of {path}"))?;
        fs::write(&file, content).with_context(|| format!("cannot write {path}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Fails, with the difference, where a generated file is not what it should be.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for Generated { path, content } in everything()? {
        let old = fs::read_to_string(root.join(&path)).unwrap_or_default();
        if old != content {
            println!("--- {path}\n+++ {path}, generated\n{}", diff::lines(&old, &content));
            stale.push(path);
        }
    }
    if !stale.is_empty() {
        bail!("run `cargo xtask generate`: not up to date: {}", stale.join(", "));
    }
    Ok(())
}

fn everything() -> Result<Vec<Generated>> {
    let definitions = conduit_crds::definitions();
    let mut files = vec![
        Generated { path: "docs/reference/proxy-settings.md".into(), content: settings::reference() },
        Generated { path: "docs/reference/objects.md".into(), content: fields::reference(&definitions) },
    ];
    for definition in &definitions {
        let plural = &definition.spec.names.plural;
        let path = format!("helm/conduit/templates/crds/{plural}.yaml");
        files.push(Generated { path, content: manifest::template(definition)? });
    }
    Ok(files)
}
