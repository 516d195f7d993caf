//! The report as a page.

use std::fmt::Write as _;

use super::Row;
use super::cases::FUSED;
use super::compare::{COSTS, is_over_budget};
use super::measure::CARD;

/// Memory bandwidths by the vendor's figures, in TB/s.
const CARDS: [(&str, f64); 4] =
    [("MI300X", 5.3), ("RX 7900 XTX", 0.96), ("RX 9070 XT", 0.64), ("Strix Halo", 0.256)];

/// Three tables: counts, fused launches beside their parts, predictions.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut page = format!(
        "# What the kernels cost\n\n\
         Counts of the {CARD} images as `hip-emu` executes them at the shapes of GLM-4-9B, weights and cache in bf16, and \
         what the images say of themselves. Nothing ran on a card. `cargo xtask kernel-report` writes this page, with \
         `--check` it fails where a count is worse.\n\n\
         - moved/least: bytes of the 32-byte segments that were touched, of those that must be read and written once. Rows \
         with * have a budget of 1.05, and those with ** exceed it.\n\
         - asked/least: bytes that lanes asked for, caches or not.\n\
         - instructions an element: of a lane; a product of a matrix, or an element of the output.\n\
         - transactions: lines of 128 bytes that an access of a wave touches.\n\
         - LDS: the share of its cycles that conflicts of banks cost.\n\
         - waves: those that a SIMD can hold at once, of 16.\n\n\
         | launch | symbol | least bytes | moved/least | asked/least | instructions an element | transactions an access | LDS \
         | VGPRs | spills | waves |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| {}{} | `{}` | {} | {:.3} | {:.2} | {:.2} | {:.2} | {:.1}% | {} | {} | {} |",
            row.name,
            match (row.budget, is_over_budget(row)) {
                (_, true) => " **",
                (true, false) => " *",
                (false, false) => "",
            },
            row.symbol,
            row.least_bytes,
            ratio(row.moved_bytes, row.least_bytes),
            ratio(row.asked_bytes, row.least_bytes),
            ratio(row.instructions * 32, row.elements),
            ratio(row.transactions, row.accesses),
            100.0 * ratio(row.lds_conflict_cycles, row.lds_cycles),
            row.vgprs,
            row.spills,
            row.waves_per_simd,
        );
    }
    page += &fused(rows);
    page += &predictions(rows);
    page
}

fn fused(rows: &[Row]) -> String {
    let mut page = "\n## Fused launches beside their parts\n\n\
                    | launch | launches of the parts |"
        .to_owned();
    for (what, _) in COSTS {
        let _ = write!(page, " {what} | of the parts |");
    }
    page += "\n|---|---|---|---|---|---|---|---|\n";
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    for (name, parts) in FUSED {
        let Some(row) = find(name) else { continue };
        let _ = write!(page, "| {name} | {} |", parts.iter().map(|(_, times)| times).sum::<u64>());
        for (_, count) in COSTS {
            let sum: u64 = parts.iter().filter_map(|(part, times)| Some(count(find(part)?) * times)).sum();
            let _ = write!(page, " {} | {sum} |", count(row));
        }
        page += "\n";
    }
    page
}

fn predictions(rows: &[Row]) -> String {
    let mut page = "\n## Predicted\n\n\
                    Microseconds that the bytes moved take at a card's peak bandwidth: a bound from below and a prediction, \
                    not a measurement.\n\n| launch |"
        .to_owned();
    for (card, bandwidth) in CARDS {
        let _ = write!(page, " {card}, {bandwidth} TB/s |");
    }
    page += "\n|---|---|---|---|---|\n";
    for row in rows {
        let _ = write!(page, "| {} |", row.name);
        for (_, bandwidth) in CARDS {
            let _ = write!(page, " {:.2} |", ratio(row.moved_bytes, 1_000_000) / bandwidth);
        }
        page += "\n";
    }
    page
}

#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn ratio(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}
