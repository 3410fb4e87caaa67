//! Points at which the process kills itself, for the tests of its death. Compiled only with the feature `failpoints`,
//! which no release has; without it a point is nothing at all.
//!
//! `PLU_ONBOARD_FAILPOINT=after_answer:3` dies at the third time that the point `after_answer` is reached: at once, as by
//! `kill -9`, without unwinding, without flushing.

/// Every point, in the order in which a job passes them.
#[cfg(feature = "failpoints")]
pub const POINTS: [&str; 13] = [
    "received",
    "before_intent",
    "after_intent",
    "before_send",
    "before_answer_is_read",
    "after_answer",
    "during_look_up",
    "before_put_back",
    "between_copy_and_ack",
    "after_put_back",
    "before_finish",
    "between_event_and_ack",
    "after_finish",
];

/// Passes a point.
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
        // SIGKILL, so that nothing of the process can do anything about it; abort in case there is no kill.
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn pass(_point: &'static str) {}
