//! The table and the plot of programs side by side.

use std::fmt::Write as _;

use super::bars::bars;
use super::peers::Compared;

/// Whose figures are compared with the best of the others.
const OURS: &str = "gyre";

const HEAD: &str = "\
# Programs side by side

Written by `cargo xtask bench --peers` (its `--help` has the commands): each program on the same model and the same number of threads, one
after another in rounds whose order turns; of *operations*, each by itself on the shapes of GLM-4-9B. Medians of the runs in which other processes used at most a tenth of the machine. Figures
are of one machine: compare what one run has measured. *ratio* is ours to the best of the others, above 1 where ours is better.

![ratio to the best peer](peers.svg)
";

/// Markdown: a table for each kind of weights, with a row for each figure.
pub(crate) fn table(compared: &[Compared]) -> String {
    let mut page = HEAD.to_owned();
    for weights in kinds(compared) {
        let of = |ours: bool| {
            let same = compared.iter().filter(move |one| one.weights == weights);
            same.filter(move |one| (one.engine == OURS) == ours)
        };
        let programs = Vec::from_iter(of(true).chain(of(false)));
        let names = Vec::from_iter(programs.iter().map(|one| one.engine.as_str())).join(" | ");
        let _ = writeln!(page, "\n## {weights}\n\n| | {names} | *ratio* |");
        let _ = writeln!(page, "|---|{}---|", "---|".repeat(programs.len()));
        for name in figures_of(&programs) {
            let figures = programs.iter().map(|one| figure(one, name).map_or(String::from("-"), shown));
            let figures = Vec::from_iter(figures).join(" | ");
            let ratio = ratio(compared, weights, name);
            let ratio = ratio.map_or(String::from("-"), |ratio| format!("**{ratio:.2}**"));
            let _ = writeln!(page, "| {name} | {figures} | {ratio} |");
        }
        let runs = programs.iter().map(|one| format!("{}, {:.0} %", one.runs, 100.0 * one.others));
        let _ = writeln!(page, "| runs, others at most | {} | |", Vec::from_iter(runs).join(" | "));
    }
    page
}

/// The names of all figures, as they came.
fn figures_of<'a>(programs: &[&'a Compared]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (name, _) in programs.iter().flat_map(|one| &one.figures) {
        if !names.contains(&name.as_str()) {
            names.push(name.as_str());
        }
    }
    names
}

/// The kinds of weights, as they came.
fn kinds(compared: &[Compared]) -> Vec<&str> {
    let mut kinds = Vec::new();
    for one in compared {
        if !kinds.contains(&one.weights.as_str()) {
            kinds.push(one.weights.as_str());
        }
    }
    kinds
}

fn figure(one: &Compared, name: &str) -> Option<f64> {
    one.figures.iter().find(|(figure, _)| figure == name).map(|(_, value)| *value)
}

fn shown(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 1000.0) };
    format!("{value:.decimals$}")
}

/// Ours to the best of the others; of times and memory the inverse, so that more is better.
fn ratio(compared: &[Compared], weights: &str, name: &str) -> Option<f64> {
    let same = || compared.iter().filter(|one| one.weights == weights);
    let ours = figure(same().find(|one| one.engine == OURS)?, name)?;
    let others = same().filter(|one| one.engine != OURS).filter_map(|one| figure(one, name));
    if name.ends_with("tokens/s") {
        others.reduce(f64::max).map(|best| ours / best)
    } else {
        others.reduce(f64::min).map(|best| best / ours)
    }
}

/// SVG: a bar of each ratio, and a line at 1.
pub(crate) fn plot(compared: &[Compared]) -> String {
    let mut ratios = Vec::new();
    for weights in kinds(compared) {
        let ours = compared.iter().find(|one| one.engine == OURS && one.weights == weights);
        for (name, _) in ours.iter().flat_map(|one| &one.figures) {
            if let Some(ratio) = ratio(compared, weights, name) {
                ratios.push((format!("{weights}: {name}"), ratio));
            }
        }
    }
    bars(&ratios, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(engine: &str, rate: f64, load: f64) -> Compared {
        Compared {
            engine: engine.to_owned(),
            weights: String::from("q8_0"),
            figures: vec![(String::from("prompt, tokens/s"), rate), (String::from("load, s"), load)],
            others: 0.02,
            runs: 3,
        }
    }

    #[test]
    fn ratios_are_to_the_best_of_the_others() {
        let compared =
            [compared("slow", 10.0, 4.0), compared("gyre", 30.0, 2.0), compared("quick", 20.0, 1.0)];
        let table = table(&compared);
        assert!(table.contains("| | gyre | slow | quick | *ratio* |"), "{table}");
        assert!(table.contains("| prompt, tokens/s | 30.0 | 10.0 | 20.0 | **1.50** |"), "{table}");
        assert!(table.contains("| load, s | 2.00 | 4.00 | 1.00 | **0.50** |"), "{table}");
        assert!(table.contains("| runs, others at most | 3, 2 % | 3, 2 % | 3, 2 % | |"), "{table}");
        let plot = plot(&compared);
        assert_eq!((plot.matches("#4878a8").count(), plot.matches("#c07840").count()), (1, 1), "{plot}");
    }

    #[test]
    fn nothing_to_compare_with_is_said() {
        let table = table(&[compared("gyre", 30.0, 2.0)]);
        assert!(table.contains("| prompt, tokens/s | 30.0 | - |"), "{table}");
    }
}
