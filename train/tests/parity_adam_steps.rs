//! Optimisers and learning rates against the reference.

mod common;

#[test]
fn adam_steps_match_the_reference() {
    common::all_pass(vqlc_train::reference::compare_adam_steps);
}
