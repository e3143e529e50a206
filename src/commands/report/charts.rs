//! The charts of the page.

use maud::{Markup, html};
use vqlc_format::order::{Sampler, Shard};
use vqlc_train::{
    inspect::{Plane, Point},
    metrics::Usage,
};

use super::svg::{Axis, Frame, Scale, rounded, told};
use crate::{rate::RatePoint, report::shown, text};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 310.0;
/// Entries drawn on the map of a codebook: more are a blot.
const DOTS: u64 = 6000;
/// What the entries drawn are chosen by.
const SEED: u64 = 0;
/// Room for the label of a line, in the units of a chart.
const LABEL_WIDTH: f64 = 60.0;
const LABEL_HEIGHT: f64 = 15.0;

/// The codec that the page is about, among others.
pub(super) const OWN: &str = "vqlc";

/// Bits a pixel against how near the pictures came.
pub(super) fn rate(
    name: &str,
    title: &str,
    unit: &'static str,
    points: &[RatePoint],
    value: fn(&RatePoint) -> f64,
) -> Markup {
    // A single point needs room on either side.
    let room = if points.len() == 1 { 1.5 } else { 1.0 };
    let rates = points
        .iter()
        .flat_map(|p| [p.bits_per_pixel / room, p.bits_per_pixel * room]);
    let x = Axis::around("bits per pixel (logarithmic)", Scale::Log, rates);
    let y = Axis::around(unit, Scale::Linear, points.iter().map(value));
    let frame = Frame::new(WIDTH, HEIGHT, x, y).labelled();
    let codecs = codecs(points);
    let ends = codecs.iter().map(|(_, points)| {
        let last = points[points.len() - 1];
        (frame.x(last.bits_per_pixel) + 10.0, frame.y(value(last)))
    });
    let labels = apart(ends.collect());
    let marks = html! {
        @for ((class, points), (x, y)) in codecs.iter().zip(labels) {
            g class=(class) {
                path.curve d=(frame.line(points.iter().map(|p| (p.bits_per_pixel, value(p))))) {}
                path.points d=(frame.dots(points.iter().map(|p| (p.bits_per_pixel, value(p))))) {}
                text.name x=(rounded(x)) y=(rounded(y)) dy="0.35em" { (points[0].codec) }
            }
        }
    };
    let told: Vec<String> = codecs
        .iter()
        .map(|(_, points)| {
            let told: Vec<String> = points
                .iter()
                .map(|p| format!("{:.4} at {:.3} bits per pixel", value(p), p.bits_per_pixel))
                .collect();
            format!("{}: {}", points[0].codec, told.join(", "))
        })
        .collect();
    frame.chart(name, title, &told.join("; "), marks)
}

/// Places of labels, moved down as far as those above them are in their way.
fn apart(mut places: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| places[a].1.total_cmp(&places[b].1));
    for at in 1..order.len() {
        for above in 0..at {
            let (above, (x, y)) = (places[order[above]], places[order[at]]);
            if (above.0 - x).abs() < LABEL_WIDTH && (above.1 - y).abs() < LABEL_HEIGHT {
                places[order[at]].1 = above.1 + LABEL_HEIGHT;
            }
        }
    }
    places
}

/// How often each entry was chosen, the most used ones first.
pub(super) fn histogram(usage: &Usage) -> Markup {
    let mut counts: Vec<u64> = usage.counts().iter().copied().filter(|&c| c > 0).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let entries = usage.counts().len() as f64;
    let most = counts.first().copied().unwrap_or(1) as f64;
    let x = Axis::around(
        "entries, the most used first",
        Scale::Linear,
        [0.0, entries],
    );
    let y = Axis::around("tokens (logarithmic)", Scale::Log, [0.5, most]).numbered_from(1.0);
    let frame = Frame::new(WIDTH, HEIGHT, x, y);
    // Equal counts are one step.
    let mut corners = vec![(0.0, 0.5)];
    let mut start = 0;
    for equal in counts.chunk_by(|a, b| a == b) {
        let (end, count) = (start + equal.len(), equal[0] as f64);
        corners.extend([(start as f64, count), (end as f64, count)]);
        start = end;
    }
    corners.push((start as f64, 0.5));
    let used = frame.x(start as f64);
    let beyond_middle = start as f64 > entries * 0.6;
    let marks = html! {
        path.area d=(frame.line(corners)) {}
        line.mark x1=(rounded(used)) x2=(rounded(used)) y1=(frame.top()) y2=(frame.bottom()) {}
        text.note x=(rounded(if beyond_middle { used - 7.0 } else { used + 7.0 })) y=(frame.top() + 14.0)
            text-anchor=[beyond_middle.then_some("end")] {
            (text::count(start as u64)) " used"
        }
    };
    let told = format!(
        "{} of {} entries were chosen at least once; the most used one {} times, the one in the middle of the used ones {} times.",
        text::count(start as u64),
        text::count(entries as u64),
        text::count(most as u64),
        text::count(counts.get(counts.len() / 2).copied().unwrap_or(0)),
    );
    frame.chart("histogram", "How often each entry is used", &told, marks)
}

/// A codebook seen from where it is widest: entries used and not used.
pub(super) fn map(plane: &Plane, usage: &Usage) -> Markup {
    let chosen = drawn(plane.points.len() as u64);
    let places = |used: bool| {
        let counts = usage.counts();
        chosen
            .iter()
            .filter(move |&&entry| (counts[entry] > 0) == used)
            .map(|&entry| {
                let [x, y] = plane.points[entry].map(f64::from);
                (x, y)
            })
    };
    let axis = |label, at: usize| {
        let values = chosen
            .iter()
            .map(|&entry| f64::from(plane.points[entry][at]));
        Axis::spanning(label, values)
    };
    let (x, y) = (
        axis("first principal axis", 0),
        axis("second principal axis", 1),
    );
    let frame = Frame::new(WIDTH, HEIGHT, x, y);
    let marks = html! {
        path.dots.unused d=(frame.dots(places(false))) {}
        path.dots.used d=(frame.dots(places(true))) {}
    };
    let told = format!(
        "{} entries of the codebook as dots along the two principal axes, {} of them used and {} not.",
        text::count(chosen.len() as u64),
        text::count(places(true).count() as u64),
        text::count(places(false).count() as u64),
    );
    frame.chart("map", "Where used entries lie", &told, marks)
}

/// The entries that are drawn, all or a seeded choice of them.
fn drawn(entries: u64) -> Vec<usize> {
    let order = Sampler::new(entries, SEED, Shard::whole()).order(0);
    (0..entries.min(DOTS))
        .map(|at| order.at(at) as usize)
        .collect()
}

/// What is said beside the map: how many entries are drawn of how many.
pub(super) fn drawn_of(entries: u64) -> String {
    if entries <= DOTS {
        "All entries are drawn.".into()
    } else {
        format!(
            "{} of {} entries are drawn ({:.0} %), chosen at random with seed {SEED}.",
            text::count(DOTS),
            text::count(entries),
            100.0 * DOTS as f64 / entries as f64
        )
    }
}

/// A number of a run over its steps, and where its phases begin.
pub(super) fn curve(
    number: usize,
    title: &str,
    points: &[Point],
    phases: &[(u64, String)],
) -> Markup {
    let x = Axis::spanning("step", points.iter().map(|p| p.step));
    let y = Axis::around("", Scale::Linear, points.iter().map(|p| p.value));
    let frame = Frame::new(WIDTH, 250.0, x, y);
    let marks = html! {
        @for (step, phase) in phases.iter().skip(1) {
            @let x = rounded(frame.x(*step as f64));
            line.mark x1=(x) x2=(x) y1=(frame.top()) y2=(frame.bottom()) {}
            @let beyond_middle = x > WIDTH * 0.6;
            text.note x=(if beyond_middle { x - 6.0 } else { x + 6.0 }) y=(frame.top() + 8.0)
                text-anchor=[beyond_middle.then_some("end")] { (shown(phase.as_bytes())) }
        }
        g.own { path.curve d=(frame.line(points.iter().map(|p| (p.step, p.value)))) {} }
    };
    let ends = points.first().zip(points.last());
    let ends = ends.map_or_else(String::new, |(first, last)| {
        format!(
            "From {} at step {:.0} to {} at step {:.0}.",
            told(first.value),
            first.step,
            told(last.value),
            last.step
        )
    });
    frame.chart(&format!("curve-{number}"), title, &ends, marks)
}

/// The points of each codec in the order of their rates, with the class that colours them.
fn codecs(points: &[RatePoint]) -> Vec<(String, Vec<&RatePoint>)> {
    let mut codecs: Vec<(String, Vec<&RatePoint>)> = Vec::new();
    for point in points {
        match codecs.iter_mut().find(|(_, of)| of[0].codec == point.codec) {
            Some((_, of)) => of.push(point),
            None => codecs.push((String::new(), vec![point])),
        }
    }
    let mut others = 0;
    for (class, points) in &mut codecs {
        points.sort_by(|a, b| a.bits_per_pixel.total_cmp(&b.bits_per_pixel));
        *class = if points[0].codec == OWN {
            "own".into()
        } else {
            others += 1;
            // The style sheet has so many colours.
            format!("other-{}", (others - 1) % 5 + 1)
        };
    }
    codecs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_give_way_downwards() {
        let places = vec![
            (0.0, 20.0),
            (5.0, 10.0),
            (200.0, 12.0),
            (0.0, 21.0),
            (0.0, 90.0),
        ];
        let expected = [
            (0.0, 25.0),
            (5.0, 10.0),
            (200.0, 12.0),
            (0.0, 40.0),
            (0.0, 90.0),
        ];
        assert_eq!(apart(places), expected);
        assert!(apart(Vec::new()).is_empty());
    }

    #[test]
    fn no_entry_is_drawn_twice() {
        for entries in [1, 100, 6000, 10_000] {
            let mut chosen = drawn(entries);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len() as u64, entries.min(DOTS));
            assert!(chosen.iter().all(|&entry| (entry as u64) < entries));
        }
    }
}
