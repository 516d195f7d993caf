//! A plot of named numbers.

use std::fmt::Write as _;

const ROW: f64 = 22.0;
const WIDTH: f64 = 760.0;
const VALUES: f64 = 60.0;
/// Of a character of a name.
const CHARACTER: f64 = 6.7;
const MARGIN: f64 = 12.0;

/// SVG: a bar of each number, and a line at `line`. Those that do not reach it have another colour.
pub(crate) fn bars(named: &[(String, f64)], line: f64) -> String {
    let longest = named.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let names = (longest as f64 * CHARACTER + MARGIN).max(260.0);
    let width = names + (WIDTH - 260.0);
    let most = named.iter().map(|(_, value)| *value).fold(line, f64::max);
    let at = |value: f64| names + value / most * (width - names - VALUES);
    let height = ROW * (named.len() as f64 + 1.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<rect width=\"{width:.0}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (row, (name, value)) in named.iter().enumerate() {
        let (y, end) = (ROW * (row as f64 + 0.5), at(*value));
        let colour = if *value >= line { "#4878a8" } else { "#c07840" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            names - 6.0,
            y + 12.0
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{names:.0}\" y=\"{}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>",
            y + 1.0,
            end - names
        );
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{value:.2}</text>", end + 5.0, y + 12.0);
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"black\"/>",
        at(line)
    );
    svg + "</svg>\n"
}
