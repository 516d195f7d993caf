//! What a launch may cost: its budget, its parts, and what it cost before.

use anyhow::{Context, Result};

use super::Row;
use super::cases::FUSED;

/// Whether a launch moves more than its budget, 1.05 of the least.
pub(super) fn is_over_budget(row: &Row) -> bool {
    row.budget && row.moved_bytes * 100 > row.least_bytes * 105
}

/// Launches of kernels that spill.
pub(super) fn spills(rows: &[Row]) -> Vec<String> {
    let spilling = rows.iter().filter(|row| row.spills > 0);
    spilling.map(|row| format!("{} spills {} registers", row.name, row.spills)).collect()
}

/// Fused launches that cost more than what they stand for.
pub(super) fn fused(rows: &[Row]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (fused, parts) in FUSED {
        let row = find(rows, fused)?;
        for (what, count) in COSTS {
            let mut sum = 0;
            for (part, times) in *parts {
                sum += count(find(rows, part)?) * times;
            }
            if count(row) > sum {
                findings.push(format!("{fused} takes {} {what}, its parts {sum}", count(row)));
            }
        }
    }
    Ok(findings)
}

fn find<'a>(rows: &'a [Row], name: &str) -> Result<&'a Row> {
    rows.iter().find(|row| row.name == name).with_context(|| format!("no case is named `{name}`"))
}

type Count = fn(&Row) -> u64;

/// What a fused launch must not have more of than its parts.
pub(super) const COSTS: [(&str, Count); 3] = [
    ("instructions", |row| row.instructions),
    ("bytes asked for", |row| row.asked_bytes),
    ("transactions", |row| row.transactions),
];

/// Where less is better.
const COUNTS: [(&str, Count); 7] = [
    ("bytes moved", |row| row.moved_bytes),
    ("bytes asked for", |row| row.asked_bytes),
    ("transactions", |row| row.transactions),
    ("instructions", |row| row.instructions),
    ("cycles of LDS conflicts", |row| row.lds_conflict_cycles),
    ("VGPRs", |row| row.vgprs as u64),
    ("spills", |row| row.spills as u64),
];

/// What is worse than it was, and launches that one of the two reports lacks.
pub(super) fn with_committed(committed: &[Row], rows: &[Row]) -> Vec<String> {
    let mut findings = Vec::new();
    for row in rows {
        let Some(old) = committed.iter().find(|old| old.name == row.name) else {
            findings.push(format!(
                "{} is not in the committed report; `cargo xtask kernel-report` adds it",
                row.name
            ));
            continue;
        };
        for (what, count) in COUNTS {
            if count(row) > count(old) {
                findings.push(format!("{}: {} {what}, where it had {}", row.name, count(row), count(old)));
            }
        }
        if is_over_budget(row) && !is_over_budget(old) {
            findings
                .push(format!("{} moves more than 1.05 of the least bytes, {}", row.name, row.least_bytes));
        }
        if row.waves_per_simd < old.waves_per_simd {
            let (now, before) = (row.waves_per_simd, old.waves_per_simd);
            findings.push(format!("{}: {now} waves on a SIMD, where it had {before}", row.name));
        }
    }
    for old in committed.iter().filter(|old| rows.iter().all(|row| row.name != old.name)) {
        findings
            .push(format!("{} is gone; `cargo xtask kernel-report` removes it from the report", old.name));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "a launch".to_owned(),
            symbol: "a_f32".to_owned(),
            least_bytes: 1000,
            moved_bytes: 1050,
            asked_bytes: 2000,
            accesses: 10,
            transactions: 20,
            instructions: 300,
            elements: 100,
            lds_cycles: 8,
            lds_conflict_cycles: 2,
            vgprs: 40,
            spills: 0,
            waves_per_simd: 16,
            budget: true,
        }
    }

    #[test]
    fn a_row_is_no_worse_than_itself_and_worse_in_each_count() {
        assert!(with_committed(&[row()], &[row()]).is_empty());
        let worse: [fn(&mut Row); 8] = [
            |row| row.moved_bytes += 1,
            |row| row.asked_bytes += 1,
            |row| row.transactions += 1,
            |row| row.instructions += 1,
            |row| row.lds_conflict_cycles += 1,
            |row| row.vgprs += 1,
            |row| row.spills += 1,
            |row| row.waves_per_simd -= 1,
        ];
        for change in worse {
            let mut changed = row();
            change(&mut changed);
            assert!(!with_committed(&[row()], &[changed.clone()]).is_empty());
            assert!(with_committed(&[changed], &[row()]).is_empty());
        }
        assert!(with_committed(&[], &[row()])[0].contains("adds it"));
        assert!(with_committed(&[row()], &[])[0].contains("removes it"));
    }

    #[test]
    fn budgets_end_at_their_limit() {
        assert!(!is_over_budget(&row()));
        let over = Row { moved_bytes: 1051, ..row() };
        assert!(is_over_budget(&over) && !is_over_budget(&Row { budget: false, ..over.clone() }));
        assert!(with_committed(&[row()], &[over])[1].contains("1.05"));
        assert_eq!(spills(&[row(), Row { spills: 1, ..row() }]).len(), 1);
    }
}
