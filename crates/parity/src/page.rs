use std::path::Path;

/// What `docs/correctness.md` says of the lists of a section: text that names contain, and how many do. Rows are
/// ``| `a/`, `b/` | 1,234, 5 | ... ``; those of variables are not among them.
///
/// # Panics
/// Where the page, the section or a number cannot be read, as an assertion of the calling test.
#[expect(clippy::expect_used, clippy::panic, reason = "an assertion of the calling test")]
fn told_counts(section: &str) -> Vec<(String, usize)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/correctness.md");
    let page = std::fs::read_to_string(path).expect("docs/correctness.md");
    let heading = format!("## {section}\n");
    let (_, behind) = page.split_once(&heading).unwrap_or_else(|| panic!("no section {section}"));
    let section = behind.split("\n## ").next().unwrap_or(behind);
    let rows = section.lines().filter(|row| row.starts_with("| `") && !row.contains("PARITY_"));
    rows.flat_map(|row| {
        let cells = row.split('|').map(str::trim).collect::<Vec<_>>();
        let [_, lists, counts, ..] = cells[..] else { panic!("{row}") };
        let count = |text: &str| text.replace(',', "").parse().unwrap_or_else(|_| panic!("{row}"));
        let named = lists.split(", ").zip(counts.split(", "));
        named.map(|(list, text)| (list.trim_matches('`').to_owned(), count(text))).collect::<Vec<_>>()
    })
    .collect()
}

/// Asserts that the page tells of each list of a section how many of the names are in it, and that every name is in one.
///
/// # Panics
/// Where it does not, as an assertion of the calling test.
pub fn check_told_counts(section: &str, names: &[String]) {
    let mut told = 0;
    for (list, count) in told_counts(section) {
        let found = names.iter().filter(|name| name.contains(&list)).count();
        assert_eq!(count, found, "{section}: names that contain {list}");
        told += found;
    }
    assert_eq!(told, names.len(), "{section}: every case is in one of the lists");
}
