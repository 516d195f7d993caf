//! The rows as a page.

use crate::row::{ARCH, Row};

/// Cards with their memory's bytes per second.
const CARDS: [(&str, f64); 4] =
    [("MI300X", 5.3e12), ("RX 7900 XTX", 0.96e12), ("RX 9070 XT", 0.64e12), ("Strix Halo", 0.256e12)];

const HEAD: &str = "\
# Kernel report

Written by `cargo xtask kernel-report`; `--check` fails where a count is worse than here, and CI runs it. Each launch is one
operation at the shapes of GLM-4-9B, executed by `hip-emu` from the committed gfx1100 image. Nothing here was measured on a
card.

- **moved**: bytes in the segments of 32 that the launch touched, as a share of the least that must be read and written once.
  An endless cache would move this. The budget is 1.05 for rotation, norms, SwiGLU, sums, decoding products and decoding
  attention.
- **asked**: bytes that lanes asked for, as a share of the least. What is above 1 is read from a cache again.
- **lane instructions**: instructions of waves, times 32, per element.
- **transactions**: segments of 128 bytes per vector access of global memory. A wave that reads 4 bytes a lane needs 1, one that
  reads 16 bytes a lane 4.
- **conflicts**: cycles of LDS that conflicts of banks cost, of all cycles of LDS.
- **waves**: that a SIMD holds, of 16, by registers and LDS.
- **predicted**: microseconds for the moved bytes at the card's bandwidth (MI300X 5.3, RX 7900 XTX 0.96, RX 9070 XT 0.64, Strix
  Halo 0.256 TB/s), with the counts of gfx1100. A launch itself costs 2 to 5 us, which is not in it.
";

pub(crate) fn page(rows: &[Row]) -> String {
    let mut page = HEAD.to_owned();
    page += "\n## Memory\n\n| operation | kernel | least bytes | moved | asked | transactions |\n|---|---|---|---|---|---|\n";
    for row in rows {
        let Row { shape, kernel, least_bytes, .. } = row;
        let asked = row.asked_bytes as f64 / *least_bytes as f64;
        let transactions = row.transactions as f64 / row.accesses.max(1) as f64;
        page += &format!(
            "| {shape} | `{kernel}` | {least_bytes} | {:.3} | {asked:.2} | {transactions:.2} |\n",
            row.moved()
        );
    }
    page += &format!(
        "\n## Execution on {ARCH}\n\n| operation | blocks x threads | lane instructions | conflicts | VGPRs | SGPRs | LDS | spills | waves |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let Row { shape, groups, block, vgprs, sgprs, lds, spills, occupancy, .. } = row;
        let groups: u64 = groups.iter().map(|&count| u64::from(count)).product();
        let instructions = row.instructions as f64 * 32.0 / row.elements as f64;
        let conflicts = row.lds_conflict_cycles as f64 / row.lds_cycles.max(1) as f64;
        page += &format!(
            "| {shape} | {groups} x {block} | {instructions:.2} per {} | {conflicts:.2} | {vgprs} | {sgprs} | {lds} | {spills} | {occupancy} |\n",
            row.element
        );
    }
    let names = CARDS.map(|(name, _)| format!("{name} |")).join(" ");
    page += &format!("\n## Predicted microseconds\n\n| operation | {names}\n|---|---|---|---|---|\n");
    for row in rows {
        let times = CARDS.map(|(_, rate)| format!("{:.2} |", row.moved_bytes as f64 / rate * 1e6)).join(" ");
        page += &format!("| {} | {times}\n", row.shape);
    }
    page
}
