//! Ctrl-C and SIGTERM: the first one asks the work to stop where it can be resumed, the second ends the process at once.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use crate::exit::Exit;
use crate::report;

static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// Takes over the signals. Called once, by commands that look at [`requested`].
pub(crate) fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTS.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(Exit::Interrupted as i32);
        }
        report::say("vqlc: stopping after the pictures at hand; once more to stop at once");
    })
    .context("cannot take over Ctrl-C")
}

/// Whether the work is to stop.
pub(crate) fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0
}
