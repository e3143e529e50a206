//! How much memory the network may take, so that one huge picture is refused instead of ending the machine.

use clap::Args;
use vqlc_train::measure::{AT_ONCE, BYTES_A_PIXEL};

use crate::text;

/// Assumed where the system does not say what is free.
const FALLBACK: u64 = 4 << 30;

/// How much memory the network may take.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct MemoryArgs {
    /// Memory for the network and a batch, of which a GPU has two, as 500M or 8G; larger pictures are skipped [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_memory: Option<u64>,
}

impl MemoryArgs {
    /// The limit in bytes.
    pub(crate) fn limit(self) -> u64 {
        self.max_memory
            .unwrap_or_else(|| available().unwrap_or(FALLBACK))
    }

    /// That as many crops of `side` pixels a side as are measured together fit, with `network` bytes for each beside what comparing takes,
    /// and `kept` bytes beside them all.
    pub(crate) fn expect_crops(self, side: u16, network: u64, kept: u64) -> anyhow::Result<()> {
        let (pixels, limit) = (u64::from(side).pow(2), self.limit());
        let each = network.saturating_add(pixels * BYTES_A_PIXEL);
        let need = each.saturating_mul(AT_ONCE as u64).saturating_add(kept);
        anyhow::ensure!(
            need <= limit,
            "--size {side}: such crops take about {} of memory, at most {} may be used",
            text::bytes(need),
            text::bytes(limit)
        );
        Ok(())
    }
}

/// What Linux says could be used without swapping.
fn available() -> Option<u64> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Bytes as a number with an optional K, M, G or T (times 1024 each), with or without B or iB behind it.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let bare = upper
        .strip_suffix("IB")
        .or_else(|| upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let (digits, shift) = match bare.as_bytes().last() {
        Some(b'K') => (&bare[..bare.len() - 1], 10),
        Some(b'M') => (&bare[..bare.len() - 1], 20),
        Some(b'G') => (&bare[..bare.len() - 1], 30),
        Some(b'T') => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("'{text}' is not a size such as 500M or 8G"))?;
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| format!("the size '{text}' is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("500M"), Ok(500 << 20));
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        assert_eq!(parse_size("8 GiB"), Ok(8 << 30));
        assert_eq!(parse_size("123"), Ok(123));
        for bad in ["", "G", "-1", "1.5G", "0", "99999999999T", "1X"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn meminfo() {
        assert_eq!(
            parse_meminfo("MemTotal: 9 kB\nMemAvailable:   1000 kB\n"),
            Some(1_024_000)
        );
        assert_eq!(parse_meminfo("MemTotal: 9 kB\n"), None);
    }
}
