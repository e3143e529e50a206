//! Convolution and its gradients with products of operands rounded to bf16, summed in f32, on processors with AMX.
//!
//! Sums are taken in an order that depends on shapes only.

mod convolve;
mod correlate;
mod tiles;

pub(crate) use convolve::{Forward, InputGradient};
pub(crate) use correlate::weight;
pub(crate) use tiles::Amx;

/// The bits of `x` rounded to bf16, to nearest, ties to even, in the upper half of the word; the lower half is 0.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A NaN must not be carried over into infinity or zero.
    let word = if x.is_nan() { bits | 0x0040_0000 } else { up };
    word & 0xffff_0000
}

/// Two numbers rounded, the first in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    (rounded(first) >> 16) | rounded(second)
}
