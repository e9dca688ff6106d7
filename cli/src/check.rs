//! `conduit check`: whether a cluster is ready for Conduit, whether Conduit is well, whether a namespace's proxies are.
//!
//! Facts are gathered at once ([`gather`]), decided on by tables of pure checks ([`before`], [`installed`], [`proxies`]) and
//! shown ([`report`]). This file says which of them, and for how long it is tried.

mod before;
mod finding;
mod gather;
mod installed;
mod proxies;
mod report;

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::Instant;

use crate::cluster::{self, Cluster};
use crate::command::{Answer, Error, paint};
use finding::{Finding, Status};
use gather::Gatherer;

/// How long to wait before everything is looked at again.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Settings {
    /// Whether Conduit can be installed, instead of how it is.
    #[arg(long, conflicts_with = "proxy")]
    pre: bool,
    /// The proxies of a namespace as well.
    #[arg(long)]
    proxy: bool,
    /// The namespace of the proxies; by default that of the context.
    #[arg(short, long, requires = "proxy")]
    namespace: Option<String>,
    /// Where Conduit is, or is to be.
    #[arg(long, default_value = "conduit", value_name = "NAMESPACE")]
    conduit_namespace: String,
    /// Look again until nothing fails, for at most this long, up to 1h.
    #[arg(long, value_parser = wait, default_value = "0s")]
    wait: Duration,
    /// How to show it: short leaves out what is well.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Short,
    Table,
    Json,
}

/// `conduit check`. What fails is part of the answer.
///
/// # Errors
/// There is no configuration of a cluster, or the answer cannot be written.
pub(crate) async fn check(settings: &cluster::Settings, check: Settings) -> Result<Answer, Error> {
    let cluster = Cluster::connect(settings).await?;
    let proxies_of = check.proxy.then(|| check.namespace.clone().unwrap_or_else(|| cluster.namespace.clone()));
    let gatherer = Gatherer::new(cluster.client, check.conduit_namespace);
    let deadline = Instant::now() + check.wait;
    let findings = loop {
        let findings = findings(&gatherer, check.pre, proxies_of.as_deref()).await;
        if worst(&findings) < Status::Failed || Instant::now() + AGAIN > deadline {
            break findings;
        }
        tokio::time::sleep(AGAIN).await;
    };
    let text = match check.output {
        Output::Table => report::table(&findings, paint()),
        Output::Short => report::short(&findings, paint()),
        Output::Json => serde_json::to_string_pretty(&findings)? + "\n",
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if worst(&findings) < Status::Failed { Answer::Whole } else { Answer::Partial })
}

async fn findings(gatherer: &Gatherer, pre: bool, proxies_of: Option<&str>) -> Vec<Finding> {
    if pre {
        return before::GROUP.judge(&Box::pin(gatherer.before()).await);
    }
    let installed = async { installed::GROUP.judge(&Box::pin(gatherer.installed()).await) };
    let proxies = async {
        match proxies_of {
            Some(namespace) => proxies::GROUP.judge(&Box::pin(gatherer.proxies(namespace)).await),
            None => Vec::new(),
        }
    };
    let (installed, proxies) = futures::join!(installed, proxies);
    [installed, proxies].concat()
}

fn worst(findings: &[Finding]) -> Status {
    findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Passed)
}

fn wait(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    parsed
        .filter(|wait| *wait <= Duration::from_secs(3600))
        .ok_or_else(|| format!("expected a duration of at most 1h, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    fn documented<F>(group: &finding::Group<F>, page: &mut String, seen: &mut BTreeSet<&'static str>) {
        let new: Vec<_> = group.checks.iter().filter(|check| seen.insert(check.id)).collect();
        let mut name = group.name.to_owned();
        name[..1].make_ascii_uppercase();
        write!(page, "\n## {name}\n").unwrap();
        for check in new {
            let finding::Check { id, title, hint, explanation, .. } = check;
            assert!(!explanation.is_empty(), "{id} is not explained");
            let mut title = (*title).to_owned();
            title[..1].make_ascii_uppercase();
            write!(page, "\n### {id}\n\n{title}. {explanation}\n\n*If not*: {hint}.\n").unwrap();
        }
    }

    /// With `UPDATE_GOLDEN=1` the page is written.
    #[test]
    fn the_reference_is_of_the_same_tables() {
        let mut page = "# Checks\n\nWhat `conduit check` looks at, by the ids that it shows. Generated from the code; \
                        [When something is wrong](../troubleshooting.md) says how to use it.\n"
            .to_owned();
        let mut seen = BTreeSet::new();
        documented(&before::GROUP, &mut page, &mut seen);
        documented(&installed::GROUP, &mut page, &mut seen);
        documented(&proxies::GROUP, &mut page, &mut seen);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/checks.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), page);
    }

    #[test]
    fn ids_are_words_with_dashes_and_a_check_of_two_groups_is_one() {
        let ids: Vec<_> = [before::GROUP.ids(), installed::GROUP.ids(), proxies::GROUP.ids()].concat();
        let is_id = |id: &&str| id.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(ids.iter().all(is_id), "{ids:?}");
        let twice: Vec<_> = ids.iter().filter(|id| ids.iter().filter(|other| other == id).count() > 1).collect();
        assert_eq!(twice, [&"kubernetes-version"; 2]);
    }

    #[test]
    fn waiting_is_bounded() {
        assert_eq!(wait("0s"), Ok(Duration::ZERO));
        assert_eq!(wait("2m"), Ok(Duration::from_secs(120)));
        assert!(wait("2h").is_err() && wait("-1s").is_err());
    }
}
