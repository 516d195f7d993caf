//! The table and the plot.

use std::fmt::Write as _;

use super::Measured;

const HEAD: &str = "\
# Bench

Written by `cargo xtask bench`: the CPU bodies on cases of the suites, by their names there (`docs/correctness.md`). The middle of
criterion's samples, the interval in which it lies with a confidence of 95 %, and elements a second: of RoPE those that are
rotated or appended, of attention query, key and element, of layers products or elements of a row. Times are of one machine of
two cores, and other load moves them by tens of per cent: compare what one run has measured.

![time per case](bench.svg)

| case | time | 95 % | elements a second |
|---|---|---|---|
";

/// Markdown, a row for each case.
pub(crate) fn table(measured: &[Measured]) -> String {
    let mut page = HEAD.to_owned();
    for Measured { name, seconds, interval: [lower, upper], elements } in measured {
        let interval = format!("{} to {}", time(*lower), time(*upper));
        let rate = elements / seconds;
        let _ = writeln!(page, "| `{name}` | {} | {interval} | {:.3} G |", time(*seconds), rate * 1e-9);
    }
    page
}

/// Three digits, in the unit that leaves one to three before the point.
fn time(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| seconds >= *scale).unwrap_or((1e-9, "ns"));
    let value = seconds / scale;
    let decimals = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.decimals$} {unit}")
}

const ROW: f64 = 22.0;
const NAMES: f64 = 740.0;
const WIDTH: f64 = 1280.0;
/// For the times behind the bars.
const TIMES: f64 = 90.0;

/// SVG: a bar of the time of each case on a logarithmic axis, with its interval.
pub(crate) fn plot(measured: &[Measured]) -> String {
    let decade = |seconds: f64| seconds.log10();
    let shortest = measured.iter().map(|case| case.seconds).fold(f64::INFINITY, f64::min);
    let longest = measured.iter().map(|case| case.interval[1]).fold(0.0, f64::max);
    let (first, last) = (decade(shortest).floor(), decade(longest).ceil());
    let at = |seconds: f64| NAMES + (decade(seconds) - first) / (last - first) * (WIDTH - NAMES - TIMES);
    let height = ROW * (measured.len() as f64 + 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut line = |text: String| {
        svg += &text;
        svg.push('\n');
    };
    let mut power = first;
    while power <= last {
        let (x, label) = (at(10.0_f64.powf(power)), time(10.0_f64.powf(power) * 1.000_001));
        line(format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            height - ROW
        ));
        line(format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", height - 6.0));
        power += 1.0;
    }
    for (row, Measured { name, seconds, interval: [lower, upper], .. }) in measured.iter().enumerate() {
        let (y, end) = (ROW * (row as f64 + 0.5), at(*seconds));
        line(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            NAMES - 6.0,
            y + 12.0
        ));
        line(format!(
            "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" fill=\"#4878a8\"/>",
            y + 1.0,
            end - NAMES
        ));
        line(format!(
            "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>",
            at(*lower),
            at(*upper),
            middle = y + 8.0
        ));
        line(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at(*upper).max(end) + 5.0,
            y + 12.0,
            time(*seconds)
        ));
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Vec<Measured> {
        [("rope/a", 2.5e-7), ("attention/b", 0.031)]
            .map(|(name, seconds)| Measured {
                name: name.to_owned(),
                seconds,
                interval: [0.9 * seconds, 1.1 * seconds],
                elements: 1e6,
            })
            .into()
    }

    #[test]
    fn times_have_three_digits() {
        let times = [2.5e-7, 1.234e-6, 0.031, 2.0].map(time);
        assert_eq!(times, ["250 ns", "1.23 us", "31.0 ms", "2.00 s"]);
    }

    #[test]
    fn every_case_has_its_row_and_its_bar() {
        let (table, plot) = (table(&measured()), plot(&measured()));
        for name in ["rope/a", "attention/b"] {
            assert_eq!(table.matches(&format!("| `{name}` |")).count(), 1, "{table}");
            assert_eq!(plot.matches(&format!(">{name}</text>")).count(), 1, "{plot}");
        }
        assert!(table.contains("250 ns | 225 ns to 275 ns | 4000.000 G"), "{table}");
        assert_eq!(plot.matches("fill=\"#4878a8\"").count(), 2);
    }
}
