//! Seeded random data for tests and benches.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }

    /// `[rows, dim]` normal numbers, the scale falling from 1 to 0.3 over the columns.
    pub fn tapered(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let scale = |d: usize| 1.0 - 0.7 * d as f32 / (dim - 1).max(1) as f32;
        (0..rows * dim)
            .map(|i| self.normal() * scale(i % dim))
            .collect()
    }
}

/// Uniform in [-1, 1).
pub fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| 2.0 * random.unit() - 1.0).collect()
}
