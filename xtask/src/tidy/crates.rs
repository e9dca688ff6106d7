//! Which of our crates know which, by what their Cargo.toml depend on. Tests may know more than the product.

use super::arrows::Arrows;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// A crate of ours, by its folder, with those that it depends on.
#[derive(Debug, PartialEq)]
pub(super) struct Crate {
    name: String,
    knows: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    path: Option<String>,
    kind: Option<String>,
}

/// Reads what `cargo metadata --no-deps` says.
pub(super) fn read(metadata: &str) -> Result<Vec<Crate>> {
    let Metadata { packages, workspace_root } =
        serde_json::from_str(metadata).context("cannot read cargo's metadata")?;
    // The first folder is the crate's name in the table: `e2e/demo` counts for `e2e`.
    let name = |path: &str| -> Result<String> {
        let relative = Path::new(path).strip_prefix(&workspace_root)?;
        let first = relative.components().next().with_context(|| format!("{path} is the workspace itself"))?;
        Ok(first.as_os_str().to_string_lossy().into_owned())
    };
    let read = packages.iter().map(|package| {
        let product = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        let knows = product.filter_map(|dependency| dependency.path.as_deref()).map(&name).collect::<Result<_>>()?;
        Ok(Crate { name: name(&package.manifest_path)?, knows })
    });
    read.collect()
}

/// What the table does not allow.
pub(super) fn check(crates: &[Crate], arrows: &Arrows) -> Vec<String> {
    let mut faults = Vec::new();
    for Crate { name, knows } in crates {
        let Some(allowed) = arrows.crates.get(name) else {
            faults.push(format!("{name}/Cargo.toml: the crate is not in the table of who may know whom"));
            continue;
        };
        for other in knows.iter().filter(|other| *other != name && !allowed.contains(*other)) {
            faults.push(format!("{name}/Cargo.toml: {name} must not know {other}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"workspace_root": "/house", "packages": [
        {"manifest_path": "/house/proxy/Cargo.toml", "dependencies": [
            {"path": "/house/model", "kind": null}, {"path": "/house/crds", "kind": null}, {"kind": null},
            {"path": "/house/operator", "kind": "dev"}
        ]},
        {"manifest_path": "/house/e2e/demo/Cargo.toml", "dependencies": []},
        {"manifest_path": "/house/shed/Cargo.toml", "dependencies": []}
    ]}"#;

    #[test]
    fn a_dependency_that_is_not_in_the_table_is_a_fault_but_for_tests() {
        let arrows = Arrows::parse("model, crds → none of ours\nproxy → model\ne2e → crds").unwrap();
        let faults = check(&read(METADATA).unwrap(), &arrows);
        assert_eq!(
            faults,
            [
                "proxy/Cargo.toml: proxy must not know crds",
                "shed/Cargo.toml: the crate is not in the table of who may know whom",
            ]
        );
    }
}
