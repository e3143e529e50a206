//! The three transforms of F(4x4, 3x3), with the points 0, 1, -1, 2, -2 and infinity.

use crate::lanes::Lanes;

/// Rows and columns of outputs of a tile.
pub(super) const STEP: usize = 4;
/// Rows and columns of inputs of a tile.
pub(super) const REACH: usize = 6;
/// Products of a tile for each pair of channels.
pub(super) const PLACES: usize = REACH * REACH;

/// G g G' of a kernel, row by row; in f64, rounded once.
pub(super) fn weights_of(taps: &[f32; 9]) -> [f32; PLACES] {
    let of = |g: [f64; 3]| {
        let [a, b, c] = g;
        let (even, odd) = (a / 24.0 + c / 6.0, b / 12.0);
        [
            a / 4.0,
            -(a + b + c) / 6.0,
            -(a - b + c) / 6.0,
            even + odd,
            even - odd,
            c,
        ]
    };
    // Along the columns of the kernel, then along its rows.
    let mut half = [[0.0; 3]; REACH];
    for x in 0..3 {
        let column = of(std::array::from_fn(|y| f64::from(taps[3 * y + x])));
        for (row, value) in half.iter_mut().zip(column) {
            row[x] = value;
        }
    }
    let mut whole = [0.0; PLACES];
    for (to, row) in whole.as_chunks_mut::<REACH>().0.iter_mut().zip(half) {
        *to = of(row).map(|value| value as f32);
    }
    whole
}

/// `factor * a + b`. Functions, not closures: those would not be compiled for the kernel's instructions.
#[inline(always)]
fn times<L: Lanes>(lanes: L, factor: f32, a: L::V, b: L::V) -> L::V {
    lanes.mul_add(a, lanes.splat(factor), b)
}

/// B' d.
#[inline(always)]
pub(super) fn input<L: Lanes>(lanes: L, d: [L::V; REACH]) -> [L::V; REACH] {
    let a = times(lanes, -4.0, d[2], d[4]);
    let b = times(lanes, -4.0, d[1], d[3]);
    let c = lanes.sub(d[4], d[2]);
    let e = lanes.sub(d[3], d[1]);
    [
        times(lanes, 4.0, d[0], times(lanes, -5.0, d[2], d[4])),
        lanes.add(a, b),
        lanes.sub(a, b),
        times(lanes, 2.0, e, c),
        times(lanes, -2.0, e, c),
        times(lanes, 4.0, d[1], times(lanes, -5.0, d[3], d[5])),
    ]
}

/// A' m.
#[inline(always)]
pub(super) fn output<L: Lanes>(lanes: L, m: [L::V; REACH]) -> [L::V; STEP] {
    let (sum, difference) = (lanes.add(m[1], m[2]), lanes.sub(m[1], m[2]));
    let (sum2, difference2) = (lanes.add(m[3], m[4]), lanes.sub(m[3], m[4]));
    [
        lanes.add(m[0], lanes.add(sum, sum2)),
        times(lanes, 2.0, difference2, difference),
        times(lanes, 4.0, sum2, sum),
        lanes.add(times(lanes, 8.0, difference2, difference), m[5]),
    ]
}
