//! Findings for people, in groups. Pure; it must not know how they came about.

use super::finding::{Finding, Status};
use crate::render::Paint;

/// All findings.
pub(crate) fn table(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    let mut group = None;
    for finding in findings {
        if group != Some(finding.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            let line = "-".repeat(finding.group.len());
            text += &format!("{gap}{}\n{line}\n", finding.group);
            group = Some(finding.group);
        }
        text += &one(finding, paint);
    }
    text + &format!("\n{}\n", summary(findings, paint))
}

/// Those that did not pass; a line where there are none.
pub(crate) fn short(findings: &[Finding], paint: Paint) -> String {
    let wrong = findings.iter().filter(|finding| finding.status != Status::Passed);
    wrong.map(|finding| one(finding, paint)).collect::<String>() + &summary(findings, paint) + "\n"
}

fn one(finding: &Finding, paint: Paint) -> String {
    let mut text = format!("{} {} ({})\n", mark(finding.status, paint), finding.title, finding.id);
    for line in finding.message.iter().flat_map(|message| message.lines()) {
        text += &format!("    {line}\n");
    }
    if let Some(hint) = finding.hint {
        text += &format!("    hint: {hint}\n    see {}\n", finding.docs);
    }
    text
}

fn summary(findings: &[Finding], paint: Paint) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let (passed, warnings, failed) = (count(Status::Passed), count(Status::Warning), count(Status::Failed));
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Passed);
    format!("{} {passed} passed, {warnings} warnings, {failed} failed", mark(worst, paint))
}

fn mark(status: Status, paint: Paint) -> String {
    let (mark, colour) = match status {
        Status::Passed => ("√", 32),
        Status::Warning => ("‼", 33),
        Status::Failed => ("×", 31),
    };
    match paint {
        Paint::Colour => format!("\x1b[{colour}m{mark}\x1b[0m"),
        Paint::Plain => mark.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::tests::assert_golden;

    fn finding(group: &'static str, id: &'static str, status: Status, message: Option<&str>) -> Finding {
        Finding {
            id,
            group,
            title: "everything is well",
            status,
            message: message.map(Into::into),
            hint: message.map(|_| "make it well"),
            explanation: "it matters",
            docs: format!("https://example.org/checks.md#{id}"),
        }
    }

    fn findings() -> Vec<Finding> {
        vec![
            finding("installation", "one", Status::Passed, None),
            finding("installation", "two", Status::Failed, Some("a is not\nb is not")),
            finding("proxies", "three", Status::Warning, Some("c may not be")),
        ]
    }

    #[test]
    fn the_report_of_all_findings() {
        assert_golden("check.txt", &table(&findings(), Paint::Plain));
    }

    #[test]
    fn the_short_report_leaves_out_what_is_well() {
        assert_golden("check-short.txt", &short(&findings(), Paint::Plain));
        assert_eq!(short(&findings()[..1], Paint::Plain), "√ 1 passed, 0 warnings, 0 failed\n");
    }

    #[test]
    fn json_names_what_scripts_rely_on() {
        let json = serde_json::to_value(&findings()[1]).unwrap();
        assert_eq!((&json["id"], &json["status"]), (&"two".into(), &"failed".into()));
        assert_eq!((&json["group"], &json["hint"]), (&"installation".into(), &"make it well".into()));
        assert_eq!(json["message"], "a is not\nb is not");
    }
}
