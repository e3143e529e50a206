//! What is set for the whole process before it does anything.
#![allow(unsafe_code)]

/// Sets candle's own threads to one. It starts others for single passes over a tensor and spins until all are back: on two cores a training
/// step took twice as long. Threads beside each other are this program's own, one a picture or a part of a batch.
///
/// # Safety
/// No other thread may run yet.
pub(crate) unsafe fn start() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: no other thread reads the environment, by this function's contract.
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Keeps freed memory for the next buffer until the process ends; of use where the same sizes are asked for again and again.
///
/// glibc gives every buffer above 32 MiB back to the system when it is freed, and much below it. A network makes and frees hundreds of such
/// buffers, and the system hands each out again as pages of zeros, one fault per 4 KiB: about half of the time of a training step, and a
/// sixth of that of encoding.
/// Other systems' allocators are left as they are.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// glibc's word for "never".
        const NEVER: libc::c_int = -1;
        for (option, value) in [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, NEVER)] {
            // SAFETY: mallopt takes two numbers and changes the allocator's settings under its own lock; a refusal changes nothing.
            unsafe { libc::mallopt(option, value) };
        }
    }
}
