//! The operations on a GPU against the CPU. Without a GPU nothing is compared, and the reason is said: a check that did not run is no
//! check that passed. `vqlc selftest --device cuda` runs the same.
#![allow(
    clippy::print_stdout,
    reason = "a test without the usual harness, which would count it as passed"
)]

use std::process::ExitCode;

use vqlc_model::{DeviceSpec, devices::operations};

fn main() -> ExitCode {
    let device = match DeviceSpec::Cuda(0).open() {
        Ok(device) => device,
        Err(err) => {
            println!("operations on CUDA: skipped, no GPU: {err}");
            return ExitCode::SUCCESS;
        }
    };
    let made = match operations::compare(&device) {
        Ok(made) => made,
        Err(err) => {
            println!("operations on CUDA: FAILED: {err}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for comparison in &made {
        if !comparison.passed() {
            failed += 1;
            println!("FAILED {comparison:?}");
        }
    }
    println!(
        "operations on CUDA: {} passed, {failed} failed",
        made.len() - failed
    );
    if failed == 0 && !made.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
