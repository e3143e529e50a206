//! Drawing the next id.

use vqlc_model::rng::Rng;

/// How ids are drawn from their logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What logits are divided by; 0 takes the likeliest id.
    pub temperature: f64,
    /// Only so many likeliest ids are drawn from; at least 1.
    pub top_k: usize,
    /// Of these only the likeliest whose probabilities add up to this, the one that reaches it among them (Holtzman et al. 2020);
    /// 1 keeps all.
    pub top_p: f64,
    /// Guidance (see [`super::Decoder`]); 1 is none.
    pub guidance: f64,
}

impl Choice {
    /// As the paper's section 4 samples: from the likeliest tenth of `codes` ids.
    pub fn of(codes: usize, guidance: f64) -> Self {
        Self {
            temperature: 1.0,
            top_k: (codes / 10).max(1),
            top_p: 1.0,
            guidance,
        }
    }

    /// Draws an id by its `logits`. Of ids that are equally likely the lowest comes first.
    pub fn draw(&self, logits: &[f32], draws: &mut Rng) -> u32 {
        let likelier = |a: &u32, b: &u32| {
            let (x, y) = (logits[*a as usize], logits[*b as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        let mut ids = match self.temperature {
            0.0 => (0..logits.len() as u32).collect(),
            _ => self.likeliest(logits),
        };
        let Some(first) = ids.iter().copied().min_by(likelier) else {
            return 0;
        };
        if self.temperature == 0.0 {
            return first;
        }
        if self.top_p < 1.0 {
            ids.sort_unstable_by(likelier);
        }
        let greatest = f64::from(logits[first as usize]);
        let weights: Vec<f64> = (ids.iter())
            .map(|&id| ((f64::from(logits[id as usize]) - greatest) / self.temperature).exp())
            .collect();
        let all: f64 = weights.iter().sum();
        let (mut kept, mut sum) = (0, 0.0);
        for weight in &weights {
            if self.top_p < 1.0 && kept > 0 && sum >= self.top_p * all {
                break;
            }
            (kept, sum) = (kept + 1, sum + weight);
        }
        let mut left = draws.uniform() * sum;
        for (&id, weight) in ids[..kept].iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a little.
        first
    }

    /// The `top_k` likeliest ids, ascending.
    fn likeliest(&self, logits: &[f32]) -> Vec<u32> {
        let all = 0..logits.len() as u32;
        if self.top_k >= logits.len() {
            return all.collect();
        }
        let mut values = logits.to_vec();
        let (_, &mut least, _) =
            values.select_nth_unstable_by(self.top_k.max(1) - 1, |a, b| b.total_cmp(a));
        let above = |id: &u32| logits[*id as usize].total_cmp(&least).is_gt();
        // Of those that are as likely as the last one the lowest.
        let mut level = self.top_k.max(1) - all.clone().filter(above).count();
        all.filter(|id| {
            let order = logits[*id as usize].total_cmp(&least);
            let is_level = order.is_eq() && level > 0;
            level -= usize::from(is_level);
            order.is_gt() || is_level
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, -1.0, 2.0, 1.0];

    fn counts(choice: Choice) -> [u32; 5] {
        let mut draws = Rng::new(3);
        let mut counts = [0; 5];
        for _ in 0..20_000 {
            counts[choice.draw(&LOGITS, &mut draws) as usize] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_those_of_the_softmax() {
        let choice = Choice {
            top_k: 5,
            temperature: 0.7,
            ..Choice::of(5, 1.0)
        };
        let powers = LOGITS.map(|x| (f64::from(x) / 0.7).exp());
        let all: f64 = powers.iter().sum();
        for (count, power) in counts(choice).into_iter().zip(powers) {
            let share = f64::from(count) / 20_000.0;
            assert!(
                (share - power / all).abs() < 0.015,
                "{share} {}",
                power / all
            );
        }
    }

    #[test]
    fn unlikely_ids_are_left_out() {
        let choice = Choice {
            top_k: 3,
            ..Choice::of(5, 1.0)
        };
        let found = counts(choice);
        assert_eq!((found[0], found[2]), (0, 0));
        assert!(found[4] > 0);
        // The two likeliest have 0.79 of all five, or 0.84 of the likeliest three.
        let nucleus = Choice {
            top_p: 0.8,
            ..choice
        };
        let found = counts(nucleus);
        assert!(found[1] > 0 && found[3] > 0);
        assert_eq!(found[4], 0);
        let greedy = Choice {
            temperature: 0.0,
            ..choice
        };
        assert_eq!(
            counts(greedy),
            [0, 20_000, 0, 0, 0],
            "the lower of two equals"
        );
        let one = Choice { top_k: 1, ..choice };
        assert_eq!(counts(one), counts(greedy));
    }
}
