//! The commands that count: whom to ask, what to say when there is nothing to show, and where it goes.

mod settings;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::cluster::{self, Cluster};
use crate::edges;
use crate::identity::Identity;
use crate::render::{self, Paint};
use crate::resource::Resource;
use crate::routes::{self, View};
use crate::scrape::Unanswered as Failures;
use crate::scrape::{self, Scraped};
use crate::stat;
use crate::workload::Member;
pub(crate) use settings::{EdgesSettings, IdentitySettings, Place, RoutesSettings, Scope, StatSettings};
use settings::{IdentityOutput, RoutesOutput, StatOutput};

/// Whether everything that was asked about could be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    /// A pod did not answer; it was named.
    Partial,
}

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error("there is no {resource} with pods in {place}")]
    NoPods { resource: Resource, place: Place },
    #[error("nothing is meshed: no pod of {resource} in {place} has a proxy. {}", place.remedy())]
    NotMeshed { resource: Resource, place: Place },
    #[error("no proxy of {resource} in {place} answered:\n{failures}")]
    NoAnswer { resource: Resource, place: Place, failures: String },
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write the answer: {0}")]
    Json(#[from] serde_json::Error),
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Document<'a, R> {
    window_seconds: f64,
    rows: &'a [R],
    unanswered: Vec<Unanswered<'a>>,
}

/// What `conduit identity -o json` prints.
#[derive(Serialize)]
struct Identities<'a> {
    rows: &'a [Identity],
    unanswered: Vec<Unanswered<'a>>,
}

#[derive(Serialize)]
struct Unanswered<'a> {
    namespace: &'a str,
    pod: &'a str,
    reason: String,
}

/// `conduit stat`.
///
/// # Errors
/// There is nothing to show, and why.
pub(crate) async fn stat(settings: &cluster::Settings, stat: StatSettings) -> Result<Answer, Error> {
    let resource = stat.resource.unwrap_or_default();
    let (members, scraped) = measured(settings, &resource, &stat.scope, stat.window.window).await?;
    let rows = stat::table(&resource, &members, &scraped.changes);
    let text = match stat.output {
        StatOutput::Json => json(stat.window.window, &rows, &scraped.unanswered)?,
        StatOutput::Table => render::stat(&rows, paint(), stat.scope.all_namespaces),
        StatOutput::Wide => render::stat_wide(&rows, paint(), stat.scope.all_namespaces),
    };
    said(&text, &scraped.unanswered)
}

/// `conduit routes`.
///
/// # Errors
/// There is nothing to show, and why.
pub(crate) async fn routes(settings: &cluster::Settings, routes: RoutesSettings) -> Result<Answer, Error> {
    let view = routes.to.map_or(View::Server, View::Client);
    let (members, scraped) = measured(settings, &routes.resource, &routes.scope, routes.window.window).await?;
    let rows = routes::table(&routes.resource, &view, &members, &scraped.changes);
    let text = match routes.output {
        RoutesOutput::Json => json(routes.window.window, &rows, &scraped.unanswered)?,
        RoutesOutput::Table if rows.is_empty() => "no request has been seen yet\n".to_owned(),
        RoutesOutput::Table => render::routes(&rows, paint(), routes.scope.all_namespaces),
    };
    said(&text, &scraped.unanswered)
}

/// `conduit edges`.
///
/// # Errors
/// There is nothing to show, and why.
pub(crate) async fn edges(settings: &cluster::Settings, edges: EdgesSettings) -> Result<Answer, Error> {
    let resource = edges.resource.unwrap_or_default();
    let cluster = Cluster::connect(settings).await?;
    let place = edges.scope.place(&resource, &cluster.namespace);
    let members = cluster.members(place.namespace()).await?;
    if !members.iter().any(|member| member.is_of(&resource)) {
        return Err(Error::NoPods { resource, place });
    }
    // Whoever else is there may be at the other end.
    let scraped = scraped(&cluster, &resource, &place, &members, edges.window).await?;
    let rows = edges::table(&resource, &members, &scraped.changes);
    let text = match edges.output {
        StatOutput::Json => json(edges.window, &rows, &scraped.unanswered)?,
        StatOutput::Table | StatOutput::Wide if rows.is_empty() => "no connection has been seen yet\n".to_owned(),
        StatOutput::Table => render::edges(&rows, paint()),
        StatOutput::Wide => render::edges_wide(&rows, paint()),
    };
    said(&text, &scraped.unanswered)
}

/// `conduit identity`.
///
/// # Errors
/// There is nothing to show, and why.
pub(crate) async fn identity(settings: &cluster::Settings, identity: IdentitySettings) -> Result<Answer, Error> {
    let resource = identity.resource.unwrap_or_default();
    let cluster = Cluster::connect(settings).await?;
    let place = identity.scope.place(&resource, &cluster.namespace);
    let members = meshed(&cluster, &resource, &place).await?;
    let (rows, unanswered) = scrape::identities(&cluster.client, &members).await;
    if rows.is_empty() && !unanswered.is_empty() {
        return Err(Error::NoAnswer { resource, place, failures: failures(&unanswered) });
    }
    let now = Timestamp::now();
    let text = match (identity.output, &rows[..]) {
        (IdentityOutput::Json, rows) => {
            serde_json::to_string_pretty(&Identities { rows, unanswered: listed(&unanswered) })? + "\n"
        }
        (IdentityOutput::Pem, rows) => rows.iter().map(Identity::pem).collect(),
        (IdentityOutput::Table, [only]) => only.described(now),
        (IdentityOutput::Table, rows) => render::identities(rows, paint(), identity.scope.all_namespaces, now),
    };
    said(&text, &unanswered)
}

/// The pods of a place that are asked about, of which at least one is meshed.
async fn meshed(cluster: &Cluster, resource: &Resource, place: &Place) -> Result<Vec<Member>, Error> {
    let mut members = cluster.members(place.namespace()).await?;
    members.retain(|member| member.is_of(resource));
    let (resource, place) = (resource.clone(), place.clone());
    match &members[..] {
        [] => Err(Error::NoPods { resource, place }),
        some if !some.iter().any(|member| member.meshed) => Err(Error::NotMeshed { resource, place }),
        _ => Ok(members),
    }
}

async fn measured(
    settings: &cluster::Settings,
    resource: &Resource,
    scope: &Scope,
    window: Duration,
) -> Result<(Vec<Member>, Scraped), Error> {
    let cluster = Cluster::connect(settings).await?;
    let place = scope.place(resource, &cluster.namespace);
    let members = meshed(&cluster, resource, &place).await?;
    let scraped = scraped(&cluster, resource, &place, &members, window).await?;
    Ok((members, scraped))
}

async fn scraped(
    cluster: &Cluster,
    resource: &Resource,
    place: &Place,
    members: &[Member],
    window: Duration,
) -> Result<Scraped, Error> {
    if !members.iter().any(|member| member.meshed) {
        return Err(Error::NotMeshed { resource: resource.clone(), place: place.clone() });
    }
    let scraped = {
        let _progress = Progress::of(members, window);
        match window {
            Duration::ZERO => scrape::since_start(&cluster.client, members).await,
            window => scrape::window(&cluster.client, members, window).await,
        }
    };
    if scraped.changes.is_empty() && !scraped.unanswered.is_empty() {
        let failures = failures(&scraped.unanswered);
        return Err(Error::NoAnswer { resource: resource.clone(), place: place.clone(), failures });
    }
    Ok(scraped)
}

fn json<R: Serialize>(window: Duration, rows: &[R], unanswered: &Failures) -> Result<String, Error> {
    let document = Document { window_seconds: window.as_secs_f64(), rows, unanswered: listed(unanswered) };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn listed(unanswered: &Failures) -> Vec<Unanswered<'_>> {
    let listed = unanswered.iter();
    listed.map(|((namespace, pod), failure)| Unanswered { namespace, pod, reason: failure.to_string() }).collect()
}

fn said(text: &str, unanswered: &Failures) -> Result<Answer, Error> {
    io::stdout().write_all(text.as_bytes())?;
    if unanswered.is_empty() {
        return Ok(Answer::Whole);
    }
    eprintln!("\nwithout these pods, whose proxies did not answer:\n{}", failures(unanswered));
    Ok(Answer::Partial)
}

fn failures(unanswered: &Failures) -> String {
    let lines = unanswered.iter().map(|((namespace, pod), failure)| format!("  {namespace}/{pod}: {failure}"));
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn paint() -> Paint {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !plain { Paint::Colour } else { Paint::Plain }
}

/// A line for a person who waits, gone when the waiting is over.
struct Progress;

impl Progress {
    fn of(members: &[Member], window: Duration) -> Option<Self> {
        let meshed = members.iter().filter(|member| member.meshed).count();
        io::stderr().is_terminal().then(|| {
            match window {
                Duration::ZERO => eprint!("asking {meshed} pods …"),
                window => eprint!("measuring {meshed} pods over {window:?} …"),
            }
            Self
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let error =
            Error::NotMeshed { resource: "deploy/web".parse().unwrap(), place: Place::Namespace("shop".into()) };
        let expected = "nothing is meshed: no pod of deploy/web in namespace shop has a proxy. To mesh it:\n  \
                        kubectl label namespace shop conduit.io/inject=enabled\n  \
                        kubectl rollout restart deployment -n shop";
        assert_eq!(error.to_string(), expected);
    }
}
