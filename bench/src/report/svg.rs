//! Charts as SVG, readable on light and dark pages: panels with axes, lines, bars and a legend. Must not know what they show.

use std::fmt::Write;

/// Room around a panel: left for the labels of its axis, above for its title, below for labels of the other axis.
const LEFT: f64 = 62.0;
const ABOVE: f64 = 78.0;
const BELOW: f64 = 52.0;
const RIGHT: f64 = 22.0;

/// Colours by `class`: of the page, of text, of lines of the frame, and of the series `s0` to `s4`. In so many words, because
/// not everything that shows pictures knows variables.
const STYLE: &str = "\
    .page{fill:#ffffff}.text{fill:#1f2937}.faint{fill:#57606a}.frame{stroke:#d0d7de}.whisker{stroke:#1f2937}\
    .line{fill:none}.s0.line{stroke:#57606a}.s0.fill{fill:#57606a}.s1.line{stroke:#8c959f}.s1.fill{fill:#8c959f}\
    .s2.line{stroke:#4f46e5}.s2.fill{fill:#4f46e5}.s3.line{stroke:#c2410c}.s3.fill{fill:#c2410c}\
    .s4.line{stroke:#0f766e}.s4.fill{fill:#0f766e}\
    text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif}\
    @media (prefers-color-scheme:dark){\
    .page{fill:#0d1117}.text{fill:#e6edf3}.faint{fill:#9198a1}.frame{stroke:#3d444d}.whisker{stroke:#e6edf3}\
    .s0.line{stroke:#b1bac4}.s0.fill{fill:#b1bac4}.s1.line{stroke:#6e7681}.s1.fill{fill:#6e7681}\
    .s2.line{stroke:#a5a1ff}.s2.fill{fill:#a5a1ff}.s3.line{stroke:#fb923c}.s3.fill{fill:#fb923c}\
    .s4.line{stroke:#2dd4bf}.s4.fill{fill:#2dd4bf}}";

/// An axis: what it is about, and which values it has.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// With the unit.
    pub(super) label: &'static str,
    /// Values with a line and a number, ascending; the first and the last are its ends.
    pub(super) ticks: Vec<f64>,
    /// How far values are apart.
    pub(super) scale: Scale,
}

/// How far values are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// By their difference.
    Linear,
    /// By their ratio.
    Logarithmic,
}

/// A line of a panel.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Which series, by number.
    pub(super) series: usize,
    /// Its points.
    pub(super) points: Vec<(f64, f64)>,
}

/// Axes with lines.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// Above it.
    pub(super) title: String,
    /// To the right.
    pub(super) x: Axis,
    /// Upwards.
    pub(super) y: Axis,
    /// In it.
    pub(super) lines: Vec<Line>,
}

/// A bar: a value, and how far measurements of it went.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// Which series, by number.
    pub(super) series: usize,
    /// Its length.
    pub(super) value: f64,
    /// The least and the most.
    pub(super) range: (f64, f64),
}

/// Bars under a name.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The name.
    pub(super) name: &'static str,
    /// The bars.
    pub(super) bars: Vec<Bar>,
}

impl Axis {
    /// From nothing to above all `values`, in round steps.
    pub(super) fn linear(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let power = 10_f64.powf((most / 5.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| most / step <= 5.0);
        let step = step.unwrap_or(most);
        let count = (most / step).ceil() as u32;
        Self { label, ticks: (0..=count).map(|index| f64::from(index) * step).collect(), scale: Scale::Linear }
    }

    /// From below the least of `values` to above the most, by powers of ten and their doubles and fives.
    pub(super) fn logarithmic(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) =
            values.fold((f64::MAX, 1.0), |(least, most), value| (least.min(value), f64::max(most, value)));
        let steps = (0..10).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
        let steps: Vec<f64> = steps.collect();
        let end = steps.len() - 1;
        let first = steps.iter().rposition(|step| *step <= least).unwrap_or(0).min(end - 1);
        let last = steps.iter().position(|step| *step >= most).unwrap_or(end).max(first + 1);
        Self { label, ticks: steps[first..=last].to_vec(), scale: Scale::Logarithmic }
    }

    /// Where a value lies, from 0 at the first tick to 1 at the last.
    fn place(&self, value: f64) -> f64 {
        let (Some(first), Some(last)) = (self.ticks.first(), self.ticks.last()) else { return 0.0 };
        match self.scale {
            Scale::Linear => (value - first) / (last - first),
            Scale::Logarithmic => (value / first).ln() / (last / first).ln(),
        }
    }
}

/// Panels side by side under one legend.
pub(super) fn panels(title: &str, legend: &[(usize, String)], panels: &[Panel]) -> String {
    let (width, height) = (430.0, 260.0);
    let whole = width * panels.len() as f64;
    let mut svg = open(title, whole, ABOVE + height + BELOW, legend);
    for (index, panel) in panels.iter().enumerate() {
        let left = width * index as f64 + LEFT;
        draw(&mut svg, panel, (left, ABOVE), (width - LEFT - RIGHT, height));
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel, (left, top): (f64, f64), (width, height): (f64, f64)) {
    let x = |value| left + width * panel.x.place(value);
    let y = |value| top + height * (1.0 - panel.y.place(value));
    let bottom = top + height;
    text(svg, (left, top - 10.0), "text", "start", 13, &panel.title);
    for tick in &panel.y.ticks {
        line(svg, "frame", (left, y(*tick)), (left + width, y(*tick)));
        text(svg, (left - 7.0, y(*tick) + 4.0), "faint", "end", 11, &number(*tick));
    }
    for tick in &panel.x.ticks {
        line(svg, "frame", (x(*tick), bottom), (x(*tick), bottom + 4.0));
        text(svg, (x(*tick), bottom + 18.0), "faint", "middle", 11, &number(*tick));
    }
    text(svg, (left + width / 2.0, bottom + 38.0), "text", "middle", 12, panel.x.label);
    let (axis_x, axis_y) = (left - 46.0, top + height / 2.0);
    let label = panel.y.label;
    put(
        svg,
        format_args!(
            "<text class=\"text\" font-size=\"12\" text-anchor=\"middle\" transform=\"translate({axis_x:.1} {axis_y:.1}) rotate(-90)\">{label}</text>"
        ),
    );
    for Line { series, points } in &panel.lines {
        let path: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        put(
            svg,
            format_args!("<polyline class=\"s{series} line\" stroke-width=\"2.2\" points=\"{}\"/>", path.join(" ")),
        );
        for point in points {
            put(
                svg,
                format_args!(
                    "<circle class=\"s{series} fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                    x(point.0),
                    y(point.1)
                ),
            );
        }
    }
}

/// Groups of horizontal bars from one line, with their values, under one legend.
pub(super) fn bars(title: &str, legend: &[(usize, String)], axis: &Axis, groups: &[Group]) -> String {
    const BAR: f64 = 17.0;
    const GAP: f64 = 14.0;
    let (left, width) = (92.0, 680.0);
    let count: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = count as f64 * BAR + groups.len() as f64 * GAP;
    let mut svg = open(title, left + width + 80.0, ABOVE + height + BELOW, legend);
    let x = |value| left + width * axis.place(value);
    for tick in &axis.ticks {
        line(&mut svg, "frame", (x(*tick), ABOVE), (x(*tick), ABOVE + height));
        text(&mut svg, (x(*tick), ABOVE + height + 18.0), "faint", "middle", 11, &number(*tick));
    }
    text(&mut svg, (left + width / 2.0, ABOVE + height + 38.0), "text", "middle", 12, axis.label);
    let mut top = ABOVE + GAP / 2.0;
    for group in groups {
        let middle = top + group.bars.len() as f64 * BAR / 2.0;
        text(&mut svg, (left - 10.0, middle + 4.0), "text", "end", 13, group.name);
        for Bar { series, value, range } in &group.bars {
            let (height, centre) = (BAR - 4.0, top + (BAR - 4.0) / 2.0);
            put(
                &mut svg,
                format_args!(
                    "<rect class=\"s{series} fill\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"2\"/>",
                    (x(*value) - left).max(0.0)
                ),
            );
            line(&mut svg, "whisker", (x(range.0), centre), (x(range.1), centre));
            text(&mut svg, (x(range.1.max(*value)) + 6.0, centre + 4.0), "text", "start", 11, &format!("{value:.1}"));
            top += BAR;
        }
        top += GAP;
    }
    svg + "</svg>\n"
}

fn open(title: &str, width: f64, height: f64, legend: &[(usize, String)]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"
    );
    put(
        &mut svg,
        format_args!("<text class=\"text\" font-size=\"15\" font-weight=\"600\" x=\"16\" y=\"24\">{title}</text>"),
    );
    let mut left = 16.0;
    for (series, name) in legend {
        put(
            &mut svg,
            format_args!(
                "<rect class=\"s{series} fill\" x=\"{left:.1}\" y=\"36\" width=\"14\" height=\"10\" rx=\"2\"/>"
            ),
        );
        text(&mut svg, (left + 19.0, 45.0), "text", "start", 12, name);
        left += 36.0 + 7.2 * name.chars().count() as f64;
    }
    svg
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    put(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, size: u32, text: &str) {
    put(
        svg,
        format_args!(
            "<text class=\"{class}\" font-size=\"{size}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        ),
    );
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a String takes all that is written");
}

fn number(value: f64) -> String {
    if value >= 1000.0 && value % 1000.0 == 0.0 {
        return format!("{}k", value / 1000.0);
    }
    format!("{}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_begins_at_nothing_and_ends_above_all_in_a_few_round_steps() {
        let ticks = |most| Axis::linear("", [1.0, most].into_iter()).ticks;
        assert_eq!(ticks(48.3), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(ticks(91.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(1000.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
    }

    #[test]
    fn a_logarithmic_axis_holds_all_values_between_its_ends() {
        let axis = Axis::logarithmic("", [130.0, 42_000.0, 600.0].into_iter());
        assert_eq!((axis.ticks.first(), axis.ticks.last()), (Some(&100.0), Some(&50_000.0)));
        assert_eq!((axis.place(100.0), axis.place(50_000.0)), (0.0, 1.0));
        assert_eq!(Axis::logarithmic("", [7.0].into_iter()).ticks, [5.0, 10.0]);
    }

    #[test]
    fn an_axis_for_nothing_has_two_ends_all_the_same() {
        assert!(Axis::logarithmic("", std::iter::empty()).ticks.len() > 1);
        assert!(Axis::linear("", std::iter::empty()).ticks.len() > 1);
    }

    #[test]
    fn thousands_are_short() {
        assert_eq!([0.0, 0.5, 500.0, 2000.0, 2500.0].map(number), ["0", "0.5", "500", "2k", "2500"]);
    }
}
