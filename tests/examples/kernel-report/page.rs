//! The rows as a page.

use hsaco::CodeObject;

use crate::row::{ARCHS, Row, images};

/// Cards with their architectures and their memory's bytes per second.
const CARDS: [(&str, &str, f64); 4] = [
    ("MI300X", "gfx942", 5.3e12),
    ("RX 7900 XTX", "gfx1100", 0.96e12),
    ("RX 9070 XT", "gfx1201", 0.64e12),
    ("Strix Halo", "gfx1151", 0.256e12),
];

const HEAD: &str = "\
# Kernel report

Written by `cargo xtask kernel-report`; `--check` fails where a count is worse than here, and CI runs it. Each launch is one
operation at the shapes of GLM-4-9B, executed by `hip-emu` from the committed images: those of gfx1100 unless another
architecture is named. Nothing here was measured on a card.

- **moved**: bytes in the segments of 32 that the launch touched, as a share of the least that must be read and written once.
  An endless cache would move this. The budget is 1.05 for rotation, norms, SwiGLU, sums, decoding products and decoding
  attention.
- **asked**: bytes that lanes asked for, as a share of the least. What is above 1 is read from a cache again.
- **lane instructions**: instructions of waves, times their lanes, per element.
- **transactions**: segments of 128 bytes per vector access of global memory. A wave that reads 4 bytes a lane needs 1, one that
  reads 16 bytes a lane 4.
- **conflicts**: cycles of LDS that conflicts of banks cost, of all cycles of LDS.
- **waves**: that a SIMD holds, by registers and LDS, of 16 (of 8 on gfx90a and gfx942).
- **predicted**: microseconds for the moved bytes at the card's bandwidth (MI300X 5.3, RX 7900 XTX 0.96, RX 9070 XT 0.64, Strix
  Halo 0.256 TB/s), with the counts of its architecture. A launch itself costs 2 to 5 us, which is not in it.
";

pub(crate) fn page(all: &[Row]) -> String {
    let first = Vec::from_iter(all.iter().filter(|row| row.arch == ARCHS[0]));
    let rows = first.as_slice();
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
        "\n## Execution on {}\n\n| operation | blocks x threads | lane instructions | conflicts | VGPRs | SGPRs | LDS | spills | waves |\n|---|---|---|---|---|---|---|---|---|\n",
        ARCHS[0]
    );
    for row in rows {
        let Row { shape, groups, block, vgprs, sgprs, lds, spills, occupancy, .. } = row;
        let groups: u64 = groups.iter().map(|&count| u64::from(count)).product();
        let instructions = row.lane_instructions();
        let conflicts = row.lds_conflict_cycles as f64 / row.lds_cycles.max(1) as f64;
        page += &format!(
            "| {shape} | {groups} x {block} | {instructions:.2} per {} | {conflicts:.2} | {vgprs} | {sgprs} | {lds} | {spills} | {occupancy} |\n",
            row.element
        );
    }
    page += "\n## Fused launches beside their parts\n\nOf one token. The parts are launches of their own above; a fused launch may execute at most 1 % more.\n\n\
             | fused | parts | launches | instructions | of the parts | asked bytes | of the parts |\n|---|---|---|---|---|---|---|\n";
    for Fused { whole, parts } in fused(rows) {
        let sum = |of: fn(&Row) -> u64| parts.iter().map(|part| of(part)).sum::<u64>();
        let kernels = Vec::from_iter(parts.iter().map(|part| format!("`{}`", part.kernel))).join(" + ");
        page += &format!(
            "| `{}` | {kernels} | {} | {} | {} | {} | {} |\n",
            whole.kernel,
            parts.len(),
            whole.instructions,
            sum(|part| part.instructions),
            whole.asked_bytes,
            sum(|part| part.asked_bytes)
        );
    }
    page += &architectures(all);
    page += &registers(rows);
    let names = CARDS.map(|(name, ..)| format!("{name} |")).join(" ");
    page += &format!("\n## Predicted microseconds\n\n| operation | {names}\n|---|---|---|---|---|\n");
    for row in rows {
        let times = CARDS.map(|(_, arch, rate)| {
            let of = all.iter().find(|other| other.arch == arch && other.shape == row.shape);
            of.map_or_else(String::new, |of| format!("{:.2}", of.moved_bytes as f64 / rate * 1e6))
        });
        page += &format!("| {} | {} |\n", row.shape, times.join(" | "));
    }
    page
}

/// What each operation costs on each architecture.
fn architectures(all: &[Row]) -> String {
    let mut page = format!(
        "\n## By architecture\n\nMoved bytes as a share of the least; lane instructions per element; waves of a SIMD.\n\n| operation | {} |\n|---{}|\n",
        ARCHS.join(" | "),
        "|---".repeat(ARCHS.len())
    );
    for row in all.iter().filter(|row| row.arch == ARCHS[0]) {
        let cells = ARCHS.iter().map(|arch| {
            let of = all.iter().find(|other| other.arch == *arch && other.shape == row.shape);
            of.map_or_else(String::new, |of| {
                format!("{:.3}; {:.2}; {}", of.moved(), of.lane_instructions(), of.occupancy)
            })
        });
        page += &format!("| {} | {} |\n", row.shape, Vec::from_iter(cells).join(" | "));
    }
    page
}

/// Vector registers of each kernel above, as it is compiled for each architecture.
fn registers(rows: &[&Row]) -> String {
    let mut kernels: Vec<&str> = rows.iter().map(|row| row.kernel.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    let archs = Vec::from_iter(images().take(1).flat_map(|set| set.images).map(|image| image.arch));
    let mut page = format!(
        "\n## Vector registers by architecture\n\nAs the metadata of the images counts them; none has spills or scratch.\n\n| kernel | {} |\n|---{}|\n",
        archs.join(" | "),
        "|---".repeat(archs.len())
    );
    for kernel in kernels {
        let count =
            |arch: &&str| registers_of(kernel, arch).map_or("?".to_owned(), |count| count.to_string());
        page += &format!("| `{kernel}` | {} |\n", Vec::from_iter(archs.iter().map(count)).join(" | "));
    }
    page
}

fn registers_of(kernel: &str, arch: &str) -> Option<u32> {
    let set = images().find(|set| set.decl.symbols.contains(&kernel))?;
    let image = set.images.iter().find(|image| image.arch == arch)?;
    let object = CodeObject::parse(image.bytes).ok()?;
    let info = object.kernels().iter().find(|info| info.name == kernel)?;
    Some(info.vgprs)
}

/// A launch, and those that it does the work of.
pub(crate) struct Fused<'a> {
    pub(crate) whole: &'a Row,
    pub(crate) parts: Vec<&'a Row>,
}

impl Fused<'_> {
    /// That it executes more than its parts.
    pub(crate) fn slower(&self) -> Option<String> {
        let parts: u64 = self.parts.iter().map(|part| part.instructions).sum();
        let found = self.whole.instructions;
        let is_slower = found > parts + parts / 100;
        is_slower.then(|| {
            format!("{} on {}: {found} instructions, its parts {parts}", self.whole.shape, self.whole.arch)
        })
    }
}

/// Of rows of one architecture.
pub(crate) fn fused<'a>(rows: &[&'a Row]) -> Vec<Fused<'a>> {
    let of = |start: &str| rows.iter().copied().find(|row| row.shape.starts_with(start));
    let wholes: [(&str, &[&str]); 3] = [
        ("norm_linear qkv", &["add_rms_norm, both normed [1,", "linear qkv"]),
        ("norm_swiglu", &["add_rms_norm, both normed [1,", "linear gate_up", "swiglu [1,"]),
        ("rotate, append and attend q [1,", &["rotate q, k [1,", "attend q [1,"]),
    ];
    let fused = wholes.into_iter().filter_map(|(whole, parts)| {
        Some(Fused { whole: of(whole)?, parts: parts.iter().map(|part| of(part)).collect::<Option<_>>()? })
    });
    fused.collect()
}
