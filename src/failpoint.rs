//! Points at which the process kills itself, for crash tests. Compiled only with the feature `failpoints`, which no
//! release has; without it [`pass`] does nothing.
//!
//! With `PLU_ONBOARD_FAILPOINT=after_answer:3` the process dies when it passes the point `after_answer` for the third
//! time. It dies by SIGKILL, without unwinding and without flushing.

/// Every point, in the order in which a job passes it.
#[cfg(feature = "failpoints")]
pub const POINTS: [&str; 13] = [
    "received",
    "before_intent",
    "after_intent",
    "before_send",
    "before_answer_is_read",
    "after_answer",
    "during_look_up",
    "before_requeue",
    "between_copy_and_ack",
    "after_requeue",
    "before_finish",
    "between_event_and_ack",
    "after_finish",
];

/// Kills the process if `PLU_ONBOARD_FAILPOINT` names this point and count.
#[cfg(feature = "failpoints")]
pub fn pass(point: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("PLU_ONBOARD_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    if let Some((name, count)) = armed
        && name == point
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // SIGKILL can't be handled. Aborts where there is no command kill.
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn pass(_point: &'static str) {}
