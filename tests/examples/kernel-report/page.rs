//! The rows as a page.

use hsaco::CodeObject;

use crate::card::{CARDS, Card};
use crate::row::{ARCHS, Row, images};

/// The least that a launch costs on these cards, in seconds.
const LAUNCH: f64 = 2e-6;

const HEAD: &str = "\
# Kernel report

Written by `cargo xtask kernel-report`; `--check` fails where a count is worse than here, and CI runs it. Each launch is one
operation at the shapes of GLM-4-9B, executed by `hip-emu` from the committed images: those of gfx1100 unless another
architecture is named. Nothing here was measured on a card.

- **moved**: bytes in the segments of 32 that the launch touched, as a share of the least that must be read and written once.
  An endless cache would move this. The budget is 1.05 for rotation, norms, SwiGLU, sums and decoding products, and 1.15 for
  decoding attention, whose spans leave sums for each other.
- **asked**: bytes that lanes asked for, as a share of the least. What is above 1 is read from a cache again.
- **lane instructions**: instructions of waves, times their lanes, per element. One of a matrix unit counts as one, though it
  takes many cycles.
- **transactions**: segments of 128 bytes per vector access of global memory. A wave that reads 4 bytes a lane needs 1, one that
  reads 16 bytes a lane 4.
- **conflicts**: cycles of LDS that conflicts of banks cost, of all cycles of LDS.
- **waves**: that a SIMD holds, by registers and LDS, of 16 (of 8 on gfx90a and gfx942).
- **predicted**: microseconds for the moved bytes at the card's bandwidth, with the counts of its architecture. A launch itself
  costs 2 to 5 us, which is not in it.
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
        let Row { shape, block, vgprs, sgprs, lds, spills, occupancy, .. } = row;
        let groups = row.blocks();
        let instructions = row.lane_instructions();
        let conflicts = row.lds_conflict_cycles as f64 / row.lds_cycles.max(1) as f64;
        page += &format!(
            "| {shape} | {groups} x {block} | {instructions:.2} per {} | {conflicts:.2} | {vgprs} | {sgprs} | {lds} | {spills} | {occupancy} |\n",
            row.element
        );
    }
    page += &blocks(all);
    page += &fused_launches(all);
    page += &architectures(all);
    page += &registers(rows);
    let names = Vec::from_iter(CARDS.iter().map(|card| format!("{} ({} TB/s)", card.name, card.rate / 1e12)));
    page += &format!(
        "\n## Predicted microseconds\n\n| operation | {} |\n|---{}|\n",
        names.join(" | "),
        "|---".repeat(CARDS.len())
    );
    for row in rows {
        let times = CARDS.iter().map(|card| {
            let of = all.iter().find(|other| other.arch == card.arch && other.shape == row.shape);
            of.map_or_else(String::new, |of| format!("{:.2}", of.moved_bytes as f64 / card.rate * 1e6))
        });
        page += &format!("| {} | {} |\n", row.shape, Vec::from_iter(times).join(" | "));
    }
    page
}

/// Products with quantised blocks, and whether memory or instructions bind them.
fn blocks(all: &[Row]) -> String {
    let names = Vec::from_iter(CARDS.iter().map(|card| card.name));
    let mut page = format!(
        "\n## Instructions of products with blocks beside their bytes\n\n\
         Predicted time for the instructions, were each of a wave issued alone, as a share of that for the moved bytes: below 1\n\
         memory binds.\n\n| operation | {} |\n|---{}|\n",
        names.join(" | "),
        "|---".repeat(CARDS.len())
    );
    for row in all.iter().filter(|row| row.arch == ARCHS[0] && row.shape.contains(" by Q")) {
        let shares = CARDS.iter().map(|card| {
            let of = all.iter().find(|other| other.arch == card.arch && other.shape == row.shape);
            of.map_or_else(String::new, |of| {
                let instructions = card.seconds(of.instructions as f64, of.blocks());
                format!("{:.2}", instructions / (of.moved_bytes as f64 / card.rate))
            })
        });
        page += &format!("| {} | {} |\n", row.shape, Vec::from_iter(shares).join(" | "));
    }
    page
}

/// Fused launches of one token beside the launches that they replace.
fn fused_launches(all: &[Row]) -> String {
    let mut page = String::from(
        "\n## Fused launches beside their parts\n\n\
         Of one token. The parts are launches of their own above. What a fused launch executes more may take at most as long as\n\
         the launches that it saves, at 2 us each: predicted from the card's units, SIMDs and clock.\n\n\
         | architecture | fused | parts | instructions | of the parts | asked bytes | of the parts | predicted us more | us of launches saved |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for card in &CARDS {
        let rows = Vec::from_iter(all.iter().filter(|row| row.arch == card.arch));
        for fused in fused(&rows) {
            let sum = |of: fn(&Row) -> u64| fused.parts.iter().map(|part| of(part)).sum::<u64>();
            let kernels = Vec::from_iter(fused.parts.iter().map(|part| format!("`{}`", part.kernel)));
            page += &format!(
                "| {} | `{}` | {} | {} | {} | {} | {} | {:.2} | {:.0} |\n",
                card.arch,
                fused.whole.kernel,
                kernels.join(" + "),
                fused.whole.instructions,
                sum(|part| part.instructions),
                fused.whole.asked_bytes,
                sum(|part| part.asked_bytes),
                fused.seconds_more(card) * 1e6,
                fused.seconds_saved() * 1e6,
            );
        }
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
    /// Predicted time of what it executes more than its parts; negative where that is less.
    fn seconds_more(&self, card: &Card) -> f64 {
        let parts: u64 = self.parts.iter().map(|part| part.instructions).sum();
        card.seconds(self.whole.instructions as f64 - parts as f64, self.whole.blocks())
    }

    /// Time of the launches that it saves.
    fn seconds_saved(&self) -> f64 {
        (self.parts.len() - 1) as f64 * LAUNCH
    }

    /// That it is predicted to take longer than its parts.
    pub(crate) fn slower(&self) -> Option<String> {
        let card = CARDS.iter().find(|card| card.arch == self.whole.arch)?;
        let (more, saved) = (self.seconds_more(card) * 1e6, self.seconds_saved() * 1e6);
        let Row { shape, arch, .. } = self.whole;
        (more > saved).then(|| {
            format!("{shape} on {arch}: {more:.2} us more to execute, {saved:.0} us of launches saved")
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
