//! `docs/reference/device-plugin-conformance.md`: the table as it is published, written by a run of all cases.

use std::{fmt::Write as _, path::PathBuf};

use super::Row;
use crate::{harness, paths};

/// Where it is.
pub(super) fn file() -> PathBuf {
    paths::repository().join("docs/reference/device-plugin-conformance.md")
}

/// The page.
pub(super) fn of(rows: &[Row]) -> String {
    let passed = rows.iter().filter(|row| row.passed()).count();
    let mut page = format!(
        "# Device plugin: conformance\n\n\
         Kubernetes' own node end-to-end tests for device plugins (`test/e2e_node` of {}), case by case, with our plugin in \
         the place of the sample plugin. **{passed} of {} pass.**\n\n\
         They run at the kubelet's own device manager, plugin manager, topology manager, CPU manager, admission and \
         pod-resources server, linked into a program without API server and containers (`e2e/kubelet-harness`); the GPUs \
         are simulated. A kubelet's restart is a new process. Each case is run in both ways of registration, unless it is \
         about one of them. This page is written by `cargo xtask device-conformance --publish`, which takes about seven \
         minutes, most of which is the kubelet's grace of five minutes for a plugin that went away; a test compares its \
         list of cases.\n",
        harness::KUBERNETES,
        rows.len(),
    );
    let mut file = "";
    for row in rows {
        if row.case.file != file {
            file = row.case.file;
            let _ =
                write!(page, "\n## `{file}`\n\n| case | here | ways | result |\n| --- | --- | --- | --- |\n");
        }
        let _ = writeln!(page, "{}{} |", listing(row), result(row));
    }
    page
}

/// The part of a line that a run doesn't change.
fn listing(row: &Row) -> String {
    let ways: Vec<&str> = row.case.ways.iter().map(|way| way.name()).collect();
    format!("| {} | {} | {} | ", row.case.name, row.case.here, ways.join(", "))
}

fn result(row: &Row) -> String {
    match row.why() {
        None if row.passed() => "pass".to_owned(),
        None => "**fail**: not run".to_owned(),
        Some(why) => format!("**fail**: {}", why.replace('|', "\\|").replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::conformance::cases::CASES;

    #[test]
    fn the_page_lists_just_the_cases_of_the_table() {
        let page = fs::read_to_string(file()).expect("the page");
        let listed: Vec<&str> = page
            .lines()
            .filter(|line| {
                line.starts_with("| ") && !line.starts_with("| case |") && !line.starts_with("| ---")
            })
            .collect();
        let row = |case| Row { case, ways: Vec::new(), seconds: 0.0 };
        let expected: Vec<String> = CASES.iter().map(|case| listing(&row(case))).collect();
        assert_eq!(listed.len(), expected.len(), "run cargo xtask device-conformance --publish");
        for (found, expected) in listed.iter().zip(&expected) {
            let fresh = found.starts_with(expected.as_str());
            assert!(fresh, "{found}\nisn't {expected}: run cargo xtask device-conformance --publish");
        }
    }

    #[test]
    fn a_failure_says_why_and_breaks_no_table() {
        let way = crate::harness::Way::Watched;
        let row = Row { case: &CASES[0], ways: vec![(way, Some("a | b\nc".to_owned()))], seconds: 1.0 };
        let page = of(&[row]);
        assert!(page.contains("**0 of 1 pass.**"), "{page}");
        assert!(page.ends_with("**fail**: watched: a \\| b c |\n"), "{page}");
    }
}
