//! What a check is, and what comes of it. Pure; it must not know where facts come from or how findings look.

use serde::Serialize;
use thiserror::Error;

/// Where each check is explained.
const DOCS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/reference/checks.md");

/// Checks that are made together, on the facts of one kind.
pub(crate) struct Group<F: 'static> {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static [Check<F>],
}

/// One thing that should hold.
pub(crate) struct Check<F> {
    /// By which scripts and people know it; it never changes.
    pub(crate) id: &'static str,
    /// What holds, in one line.
    pub(crate) title: &'static str,
    /// What to do where it does not, in one line.
    pub(crate) hint: &'static str,
    /// Why it matters and how it is looked at, for the documentation.
    pub(crate) explanation: &'static str,
    pub(crate) decide: fn(&F) -> Verdict,
}

/// Whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// It could not be looked at, and why.
    Unseen(String),
    /// It may become a fault.
    Warning(String),
    Failed(String),
}

/// Something that was looked at in the cluster.
pub(crate) type Fact<T> = Result<T, Unknown>;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unknown {
    /// The right that is missing, such as "list pods in namespace shop".
    #[error("not allowed to {0}, so this could not be looked at")]
    Forbidden(String),
    /// Another check tells why.
    #[error("could not be looked at: see {0}")]
    Elsewhere(&'static str),
    #[error("{0}")]
    Failed(String),
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) id: &'static str,
    pub(crate) group: &'static str,
    pub(crate) title: &'static str,
    pub(crate) status: Status,
    /// What is wrong.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<&'static str>,
    /// Why it matters.
    pub(crate) explanation: &'static str,
    pub(crate) docs: String,
}

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Passed,
    Warning,
    Failed,
}

impl<F> Group<F> {
    /// Makes every check.
    pub(crate) fn judge(&self, facts: &F) -> Vec<Finding> {
        self.checks.iter().map(|check| check.judge(self.name, facts)).collect()
    }

    /// What one of its checks says.
    #[cfg(test)]
    pub(crate) fn verdict(&self, id: &str, facts: &F) -> Verdict {
        (self.checks.iter().find(|check| check.id == id).unwrap().decide)(facts)
    }

    #[cfg(test)]
    pub(crate) fn ids(&self) -> Vec<&'static str> {
        self.checks.iter().map(|check| check.id).collect()
    }
}

impl<F> Check<F> {
    fn judge(&self, group: &'static str, facts: &F) -> Finding {
        let (status, message, hint) = match (self.decide)(facts) {
            Verdict::Passed => (Status::Passed, None, None),
            Verdict::Unseen(message) => (Status::Warning, Some(message), None),
            Verdict::Warning(message) => (Status::Warning, Some(message), Some(self.hint)),
            Verdict::Failed(message) => (Status::Failed, Some(message), Some(self.hint)),
        };
        Finding {
            id: self.id,
            group,
            title: self.title,
            status,
            hint,
            message,
            explanation: self.explanation,
            docs: format!("{DOCS}#{}", self.id),
        }
    }
}

impl Verdict {
    /// `Passed` where there are no faults; else all of them, in lines.
    pub(crate) fn failed_if(faults: Vec<String>) -> Self {
        if faults.is_empty() { Self::Passed } else { Self::Failed(faults.join("\n")) }
    }

    /// As [`Verdict::failed_if`], for what works nevertheless.
    pub(crate) fn warning_if(faults: Vec<String>) -> Self {
        if faults.is_empty() { Self::Passed } else { Self::Warning(faults.join("\n")) }
    }

    #[cfg(test)]
    pub(crate) fn failed(text: &str) -> Self {
        Self::Failed(text.into())
    }

    #[cfg(test)]
    pub(crate) fn warning(text: &str) -> Self {
        Self::Warning(text.into())
    }

    /// The graver of two, with what both say where they are equal.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed(one), Self::Failed(two)) => Self::Failed(format!("{one}\n{two}")),
            (Self::Failed(message), _) | (_, Self::Failed(message)) => Self::Failed(message),
            (Self::Warning(one), Self::Warning(two)) => Self::Warning(format!("{one}\n{two}")),
            (Self::Warning(message), _) | (_, Self::Warning(message)) => Self::Warning(message),
            (Self::Unseen(one), Self::Unseen(two)) => Self::Unseen(format!("{one}\n{two}")),
            (Self::Unseen(message), Self::Passed) | (Self::Passed, Self::Unseen(message)) => Self::Unseen(message),
            (Self::Passed, Self::Passed) => Self::Passed,
        }
    }
}

/// What one may not look at is a warning; what could not be looked at otherwise is a fault.
impl From<&Unknown> for Verdict {
    fn from(unknown: &Unknown) -> Self {
        match unknown {
            Unknown::Forbidden(_) | Unknown::Elsewhere(_) => Self::Unseen(unknown.to_string()),
            Unknown::Failed(_) => Self::Failed(unknown.to_string()),
        }
    }
}

/// Decides on a fact, if it is known.
pub(crate) fn on<T>(fact: &Fact<T>, decide: impl FnOnce(&T) -> Verdict) -> Verdict {
    match fact {
        Ok(known) => decide(known),
        Err(unknown) => unknown.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_may_not_look_at_is_a_warning_that_names_the_right() {
        let fact = Err::<(), _>(Unknown::Forbidden("list pods".into()));
        let verdict = on(&fact, |()| Verdict::Passed);
        assert_eq!(verdict, Verdict::Unseen("not allowed to list pods, so this could not be looked at".into()));
        let fact = Err::<(), _>(Unknown::Failed("no route to host".into()));
        assert_eq!(on(&fact, |()| Verdict::Passed), Verdict::Failed("no route to host".into()));
    }

    #[test]
    fn a_hint_is_given_where_something_is_wrong_and_not_where_nothing_was_seen() {
        let check = |decide| Check::<()> { id: "a", title: "b", hint: "c", explanation: "d", decide };
        let found = |decide| {
            let finding = check(decide).judge("group", &());
            (finding.status, finding.hint)
        };
        assert_eq!(found(|()| Verdict::Passed), (Status::Passed, None));
        assert_eq!(found(|()| Verdict::Unseen(String::new())), (Status::Warning, None));
        assert_eq!(found(|()| Verdict::Warning(String::new())), (Status::Warning, Some("c")));
        assert_eq!(found(|()| Verdict::Failed(String::new())), (Status::Failed, Some("c")));
    }

    #[test]
    fn the_graver_of_two_verdicts_counts() {
        let (warning, failed) = (|| Verdict::Warning("w".into()), || Verdict::Failed("f".into()));
        assert_eq!(Verdict::Passed.and(warning()), warning());
        assert_eq!(failed().and(warning()), failed());
        let unseen = || Verdict::Unseen("u".into());
        assert_eq!([unseen().and(warning()), unseen().and(failed())], [warning(), failed()]);
        assert_eq!(Verdict::Passed.and(unseen()), unseen());
        assert_eq!(warning().and(warning()), Verdict::Warning("w\nw".into()));
        assert_eq!(Verdict::Passed.and(Verdict::Passed), Verdict::Passed);
    }
}
