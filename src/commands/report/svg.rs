//! Axes and marks as SVG: text is text, and colours are classes, so that the page's style sheet decides on them in light and dark.

use std::fmt::Write as _;

use maud::{Markup, html};

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Of values above 0.
    Log,
}

/// An axis: what it shows, and from where to where.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    label: &'static str,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Around all `values` (those that are not finite, and on a logarithmic axis those not above 0, do not count), ending at ticks.
    pub(super) fn around(
        label: &'static str,
        scale: Scale,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let countable = |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0);
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(countable) {
            (from, to) = (from.min(value), to.max(value));
        }
        // Nothing, or more than an axis can hold.
        if from > to || !(to - from).is_finite() {
            (from, to) = (1.0, 1.0);
        }
        match scale {
            Scale::Linear => {
                if to - from <= 1e-9 * from.abs().max(to.abs()).max(1e-9) {
                    let room = (from.abs() * 0.1).max(1e-6);
                    (from, to) = (from - room, to + room);
                }
                let step = nice_step((to - from) / 4.0);
                let (first, last) = ((from / step).floor(), (to / step).ceil());
                let decimals = (-step.log10().floor()).max(0.0) as usize;
                let text = |v: f64| match decimals {
                    0..=9 if v.abs() < LARGE => number(v, decimals),
                    _ => told(v),
                };
                let ticks = (0..=(last - first) as usize)
                    .map(|i| (first + i as f64) * step)
                    .map(|v| (v, text(v)))
                    .collect();
                (from, to) = (first * step, last * step);
                Self {
                    scale,
                    from,
                    to,
                    label,
                    ticks,
                }
            }
            Scale::Log => {
                let all = log_ticks(from, to);
                (from, to) = (all[0], all[all.len() - 1]);
                let ticks = thinned(all);
                let ticks = ticks.into_iter().map(|v| (v, short(v))).collect();
                Self {
                    scale,
                    from,
                    to,
                    label,
                    ticks,
                }
            }
        }
    }

    /// On a linear scale from the least to the most of `values`, whatever numbers these are, with ticks between.
    pub(super) fn spanning(label: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut axis = Self::around(
            label,
            Scale::Linear,
            values.into_iter().inspect(|v| {
                if v.is_finite() {
                    (from, to) = (from.min(*v), to.max(*v));
                }
            }),
        );
        if from < to {
            (axis.from, axis.to) = (from, to);
            axis.ticks.retain(|(value, _)| (from..=to).contains(value));
        }
        axis
    }

    /// Without numbers at ticks below `least`, where values have no meaning.
    pub(super) fn numbered_from(mut self, least: f64) -> Self {
        self.ticks.retain(|(value, _)| *value >= least);
        self
    }

    /// Where a value lies, 0 to 1; values beyond the ends are drawn at them.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        // Also for what is no number.
        if place > 0.0 { place.min(1.0) } else { 0.0 }
    }
}

/// The next of 1, 2, 5, 10 ... (times a power of ten) from `least` on.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// 1, 2, 5 times powers of ten from the last one at or below `from` to the first one at or above `to`, at least two.
fn log_ticks(from: f64, to: f64) -> Vec<f64> {
    let (first, last) = (from.log10().floor() as i32, to.log10().ceil() as i32);
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)))
        .collect();
    let start = all
        .iter()
        .rposition(|v| *v <= from * (1.0 + 1e-9))
        .unwrap_or(0);
    let end = all
        .iter()
        .position(|v| *v >= to * (1.0 - 1e-9))
        .unwrap_or(all.len() - 1);
    let end = end.max(start + 1).min(all.len() - 1);
    all[start.min(end - 1)..=end].to_vec()
}

/// Where there are many, the powers of ten alone.
fn thinned(ticks: Vec<f64>) -> Vec<f64> {
    if ticks.len() <= 7 {
        return ticks;
    }
    let power_of_ten = |v: &f64| (v.log10() - v.log10().round()).abs() < 1e-9;
    ticks.into_iter().filter(power_of_ten).collect()
}

/// With thousands separated and a true minus.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let whole = whole
        .parse()
        .map_or_else(|_| whole.into(), crate::text::count);
    let minus = if value < 0.0 && text.contains(|c: char| ('1'..='9').contains(&c)) {
        "\u{2212}"
    } else {
        ""
    };
    format!("{minus}{whole}{rest}")
}

/// A number by itself, with four digits or so: as a power of ten where it is large or small.
pub(super) fn told(value: f64) -> String {
    if value == 0.0 || (1e-3..LARGE).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

/// A tick of a logarithmic axis, with as many decimals as it needs.
fn short(value: f64) -> String {
    number(value, (-value.log10().floor()).clamp(0.0, 9.0) as usize)
}

/// Where a chart's axes lie. Coordinates are the SVG's own units, which the page scales.
pub(super) struct Frame {
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    /// Room at the right for labels of lines.
    right: f64,
}

/// Numbers from here on are told as powers of ten.
const LARGE: f64 = 1e7;
const LEFT: f64 = 58.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

impl Frame {
    pub(super) fn new(width: f64, height: f64, x: Axis, y: Axis) -> Self {
        let right = 18.0;
        Self {
            width,
            height,
            x,
            y,
            right,
        }
    }

    /// With room for labels at the right end of lines.
    pub(super) fn labelled(self) -> Self {
        Self {
            right: 84.0,
            ..self
        }
    }

    pub(super) fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (self.width - LEFT - self.right)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let bottom = self.bottom();
        bottom - self.y.place(value) * (bottom - TOP)
    }

    /// Of the plane the axes span.
    pub(super) fn top(&self) -> f64 {
        TOP
    }

    pub(super) fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }

    /// A line through points.
    pub(super) fn line(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(x), self.y(y));
        }
        path
    }

    /// Dots, drawn as lines of no length with round ends: ten bytes each.
    pub(super) fn dots(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "M{:.1} {:.1}h0", self.x(x), self.y(y));
        }
        path
    }

    /// The chart: axes, a grid, and `marks` on it. `name` is unique on the page; `title` and `description` are read out to those who do
    /// not see it, and the title stands above it too.
    pub(super) fn chart(
        &self,
        name: &str,
        title: &str,
        description: &str,
        marks: Markup,
    ) -> Markup {
        let (title_id, text_id) = (format!("{name}-title"), format!("{name}-text"));
        let right = self.width - self.right;
        let middle = LEFT.midpoint(right);
        html! {
            svg.chart viewBox={ "0 0 " (self.width) " " (self.height) } role="img"
                aria-labelledby={ (title_id) " " (text_id) } {
                title id=(title_id) { (title) }
                desc id=(text_id) { (description) }
                g aria-hidden="true" {
                    text.unit x="0" y="14" { (self.y.label) }
                    @for (value, label) in &self.y.ticks {
                        @let y = rounded(self.y(*value));
                        line.grid x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
                        text.tick x=(LEFT - 8.0) y=(y) dy="0.35em" text-anchor="end" { (label) }
                    }
                    line.axis x1=(LEFT) x2=(right) y1=(self.bottom()) y2=(self.bottom()) {}
                    @for (value, label) in &self.x.ticks {
                        @let x = rounded(self.x(*value));
                        line.axis x1=(x) x2=(x) y1=(self.bottom()) y2=(self.bottom() + 5.0) {}
                        text.tick x=(x) y=(self.bottom() + 19.0) text-anchor="middle" { (label) }
                    }
                    text.unit x=(middle) y=(self.height - 5.0) text-anchor="middle" { (self.x.label) }
                    (marks)
                }
            }
        }
    }
}

/// To a tenth of a unit: what is drawn does not need more.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::around("", scale, values.iter().copied());
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        use Scale::{Linear, Log};
        assert_eq!(ticks(Linear, &[0.0, 100_000.0]), ["0", "50,000", "100,000"]);
        assert_eq!(ticks(Linear, &[19.3, 31.0]), ["15", "20", "25", "30", "35"]);
        assert_eq!(
            ticks(Linear, &[-0.11, 0.2]),
            ["\u{2212}0.2", "\u{2212}0.1", "0.0", "0.1", "0.2"]
        );
        assert_eq!(
            ticks(Log, &[0.066, 1.4]),
            ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        assert_eq!(
            ticks(Log, &[1.0, 20_000.0]),
            ["1", "10", "100", "1,000", "10,000"]
        );
    }

    #[test]
    fn small_and_huge_numbers_keep_their_digits() {
        use Scale::Linear;
        assert_eq!(told(0.0), "0.0000");
        assert_eq!(told(1e-5), "1.000e-5");
        assert_eq!(told(-2.5e8), "-2.500e8");
        let tiny = ticks(Linear, &[1e-10, 3e-10]);
        assert_eq!(tiny[0], "1.000e-10");
        assert!(tiny.windows(2).all(|two| two[0] != two[1]), "{tiny:?}");
        for tick in ticks(Linear, &[-1e308, 1e308]) {
            assert!(tick.len() < 12 && !tick.contains("NaN"), "{tick}");
        }
    }

    #[test]
    fn an_axis_may_end_between_ticks() {
        let axis = Axis::spanning("", [2.0, 120.0]);
        assert_eq!((axis.from, axis.to), (2.0, 120.0));
        assert_eq!(axis.ticks, [(50.0, "50".into()), (100.0, "100".into())]);
        let one = Axis::spanning("", [7.0]);
        assert!(one.from < 7.0 && one.to > 7.0 && one.ticks.len() > 1);
    }

    #[test]
    fn nothing_one_value_and_values_that_are_none() {
        for scale in [Scale::Linear, Scale::Log] {
            for values in [&[][..], &[3.0], &[f64::NAN, f64::INFINITY], &[0.0, 0.0]] {
                let axis = Axis::around("", scale, values.iter().copied());
                assert!(axis.ticks.len() >= 2 && axis.from < axis.to, "{axis:?}");
                for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 3.0] {
                    assert!((0.0..=1.0).contains(&axis.place(value)));
                }
            }
        }
    }
}
