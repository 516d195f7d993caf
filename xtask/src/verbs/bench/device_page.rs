//! The table and the plot of the kernels on a device.

use std::fmt::Write as _;

use hsaco::build::sha256_hex;

use super::bars::bars;
use super::device::{Measured, Row, Token};

/// What of the copy's rate an operation should reach that is limited by memory.
const TARGET: f64 = 0.90;
/// From so many tokens or bytes on.
const LARGE_TOKENS: u64 = 512;
const LARGE_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// Operations for each byte below which memory is the limit.
const BY_MEMORY: f64 = 16.0;
/// What the target is set for.
const AIMED: [&str; 5] = ["rope_append", "rms_norm", "add_rms_norm", "swiglu", "decode_attention"];

const HEAD: &str = "\
Written by `cargo xtask bench --device` (its `--help` has the commands): every kernel of the forward pass, launched back to back as
a graph over as many sets of operands as no cache holds, the middle of seven samples. *bytes* are the fewest that the operation can
move, each operand once, and *of a copy* is their rate as a share of a copy's on the device in the same run; *of a product* is the
rate of multiplications and additions as a share of cuBLAS's on matrices of 8192 x 8192 in bf16. *peer* is the time of the fastest
of the peers at the same shape over ours: above 1 ours is faster. Peers whose operands are of bf16 where ours are of f32 say so.
";

/// Markdown, and the run's name, which is made of what it found.
pub(crate) fn table(measured: &Measured, text: &str) -> String {
    let name = sha256_hex(text.as_bytes());
    let mut page = format!("# {} ({})\n\n{HEAD}\n", measured.device, measured.arch);
    let versions = measured.versions.iter().map(|(what, version)| format!("{what} {version}"));
    let versions = Vec::from_iter(versions).join(", ");
    let _ = writeln!(
        page,
        "Run `{}`: driver interface {}, {versions}.",
        name.get(..12).unwrap_or(&name),
        measured.driver
    );
    let (copy, product) = (measured.copy_bytes_per_second, measured.product_operations_per_second);
    if let (Some(copy), Some(product)) = (copy, product) {
        let _ = writeln!(
            page,
            "A copy moves {:.3} TB/s, read and written; a product does {:.1} TFLOP/s.",
            copy / 1e12,
            product / 1e12
        );
    }
    let aimed = Vec::from_iter(aimed(measured));
    let reached = aimed.iter().filter(|(_, share)| *share >= TARGET).count();
    let _ = writeln!(
        page,
        "{reached} of {} operations that memory limits, of {LARGE_TOKENS} tokens or 64 MB and more, reach {TARGET:.2} of a copy.\n",
        aimed.len()
    );
    page += "![share of the copy's rate](bench-cuda.svg)\n";
    for model in models(measured) {
        let _ = writeln!(page, "\n## {model}\n");
        page += "| operation | tokens | shape | time, us | least to most | MB | of a copy | of a product | peer | peers, us |\n";
        page += "|---|---|---|---|---|---|---|---|---|---|\n";
        for row in measured.rows.iter().filter(|row| row.model == model) {
            page += &line(row, copy, product);
        }
    }
    page + &tokens(&measured.tokens, copy)
}

fn line(row: &Row, copy: Option<f64>, product: Option<f64>) -> String {
    let share = |rate: f64, of: Option<f64>| of.map_or(String::from("-"), |of| format!("{:.3}", rate / of));
    let shape = Vec::from_iter(row.shape.iter().map(|(name, size)| format!("{name} {size}"))).join(", ");
    let peers = row.peers.iter().map(|(name, seconds)| match seconds {
        Some(seconds) => format!("{name} {}", micros(*seconds)),
        None => format!("{name} failed"),
    });
    let best = row.peers.values().flatten().copied().reduce(f64::min);
    format!(
        "| {} | {} | {shape} | {} | {} to {} | {:.2} | {} | {} | {} | {} |\n",
        row.op,
        row.tokens,
        micros(row.seconds),
        micros(row.range[0]),
        micros(row.range[1]),
        row.bytes / 1e6,
        share(row.bytes / row.seconds, copy),
        share(row.operations / row.seconds, product),
        best.map_or(String::from("-"), |best| format!("{:.2}", best / row.seconds)),
        Vec::from_iter(peers).join(", "),
    )
}

fn tokens(tokens: &[Token], copy: Option<f64>) -> String {
    let mut page = String::new();
    if tokens.is_empty() {
        return page;
    }
    page += "\n## Decoded tokens\n\nOf a model with random weights in bf16, after a context; *limit* is the time of a copy for the bytes that a \
             token has to read, and *of limit* that time over ours.\n\n\
             | model | context | way | launches | graphs | time, us | least to most | MB | limit, us | of limit |\n\
             |---|---|---|---|---|---|---|---|---|---|\n";
    for token in tokens {
        // A copy reads half of what it moves, and moves as much as a card can.
        let limit = copy.map(|copy| token.bytes / copy);
        let _ = writeln!(
            page,
            "| {} | {} | {} | {:.0} | {:.0} | {} | {} to {} | {:.0} | {} | {} |",
            token.model,
            token.context,
            token.way,
            token.launches,
            token.graphs,
            micros(token.seconds),
            micros(token.range[0]),
            micros(token.range[1]),
            token.bytes / 1e6,
            limit.map_or(String::from("-"), micros),
            limit.map_or(String::from("-"), |limit| format!("{:.3}", limit / token.seconds)),
        );
    }
    page
}

/// Microseconds, with three digits or more.
fn micros(seconds: f64) -> String {
    let micros = seconds * 1e6;
    let decimals = if micros < 10.0 { 2 } else { usize::from(micros < 100.0) };
    format!("{micros:.decimals$}")
}

fn models(measured: &Measured) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for row in &measured.rows {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    models
}

/// The operations that the target is set for, and their shares of the copy's rate.
fn aimed(measured: &Measured) -> impl Iterator<Item = (&Row, f64)> {
    let by_memory = |row: &&Row| {
        let product = row.op.starts_with("linear") || row.op == "norm_swiglu";
        let aimed = AIMED.contains(&row.op.as_str()) || (product && row.operations / row.bytes < BY_MEMORY);
        aimed && (row.tokens >= LARGE_TOKENS || row.bytes >= LARGE_BYTES)
    };
    let share = |row: &Row| Some(row.bytes / row.seconds / measured.copy_bytes_per_second?);
    measured.rows.iter().filter(by_memory).filter_map(move |row| Some((row, share(row)?)))
}

/// SVG: the shares of the copy's rate, and a line at the target.
pub(crate) fn plot(measured: &Measured) -> String {
    let named = aimed(measured).map(|(row, share)| {
        let keys = row.shape.get("keys").map_or(String::new(), |keys| format!(", {keys} keys"));
        (format!("{} {}, {} tokens{keys}", row.model, row.op, row.tokens), share)
    });
    bars(&Vec::from_iter(named), TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{
        "device": "card", "arch": "sm_90", "driver": 13000, "versions": {"torch": "2"},
        "copy_bytes_per_second": 2e12, "product_operations_per_second": 8e14,
        "rows": [
            {"op": "rms_norm", "model": "M", "tokens": 512, "shape": {"hidden": 4096}, "bytes": 1.9e7, "operations": 1e6,
             "seconds": 1e-5, "range": [0.9e-5, 1.1e-5], "peers": {"torch": 2e-5, "Triton": null}},
            {"op": "swiglu", "model": "M", "tokens": 8192, "shape": {}, "bytes": 1e7, "operations": 0,
             "seconds": 1e-5, "range": [1e-5, 1e-5]},
            {"op": "rms_norm", "model": "M", "tokens": 1, "shape": {}, "bytes": 1e4, "operations": 0,
             "seconds": 1e-6, "range": [1e-6, 1e-6]},
            {"op": "linear out", "model": "M", "tokens": 8192, "shape": {}, "bytes": 1e8, "operations": 1e12,
             "seconds": 1e-2, "range": [1e-2, 1e-2]}
        ],
        "tokens": [{"way": "graph", "model": "M", "context": 512, "seconds": 0.01, "range": [0.009, 0.011], "launches": 204,
                    "graphs": 1, "bytes": 1e10}]
    }"#;

    fn measured() -> Measured {
        Measured::from_json(RUN).unwrap()
    }

    #[test]
    fn rates_are_shares_of_what_the_device_can_do() {
        let page = table(&measured(), RUN);
        let norm = "| rms_norm | 512 | hidden 4096 | 10.0 | 9.00 to 11.0 | 19.00 | 0.950 | 0.000 | 2.00 | Triton failed, torch 20.0 |";
        assert!(page.contains(norm), "{page}");
        assert!(page.contains("1 of 2 operations that memory limits"), "{page}");
        assert!(
            page.contains("| M | 512 | graph | 204 | 1 | 10000 | 9000 to 11000 | 10000 | 5000 | 0.500 |"),
            "{page}"
        );
        assert!(page.contains("driver interface 13000, torch 2."), "{page}");
        assert_ne!(
            table(&measured(), RUN).split("Run `").nth(1),
            table(&measured(), "{}").split("Run `").nth(1)
        );
    }

    #[test]
    fn what_is_small_or_not_limited_by_memory_is_not_plotted() {
        let plot = plot(&measured());
        assert_eq!((plot.matches("#4878a8").count(), plot.matches("#c07840").count()), (1, 1), "{plot}");
    }
}
