//! How the partner behaves, and what goes wrong there: entries of a fault list.

use super::dice::Dice;
use crate::sandbox::FaultKind;

/// Returns how the partner behaves all the time.
pub(super) fn quirks(dice: &mut Dice, workers: u32) -> Vec<String> {
    let mut quirks = Vec::new();
    if dice.chance(0.5) {
        // Within the tolerance of a minute.
        quirks.push(format!("clock-skew={}s", dice.0.i64(-60..=60)));
    }
    if dice.chance(0.12) {
        quirks.push("created-at=missing".to_owned());
    }
    quirks.push(format!("list-order={}", dice.pick(&["newest", "oldest", "shuffled", "scattered"])));
    // Enough that the order of a part of the list is plain.
    quirks.push(format!("users={}", dice.pick(&[0, 0, 40, 120])));
    let growth = if dice.chance(0.25) { dice.0.u32(1..3) } else { 0 };
    if growth > 0 {
        quirks.push(format!("list-grows={growth}"));
    }
    let limit = dice.pick(&[3, 10, 50]);
    // A scan is aborted if the list grows by half of what the scan reads. Here the list grows with each page that any
    // worker reads, so every scan would find a longer list.
    let limit = if 2 * growth * workers <= limit { limit } else { 50 };
    quirks.push(format!("list-limit={limit}"));
    // The documented limit of 50 isn't refused.
    if limit == 50 && dice.chance(0.5) {
        quirks.push("list-over-limit=refuse".to_owned());
    }
    quirks.push(format!("key-reuse={}", dice.pick(&[400, 409])));
    if dice.chance(0.1) {
        quirks.push("key-used-code=SENT_BEFORE".to_owned());
    }
    if dice.chance(0.1) {
        quirks.push("dup-user-code=EMAIL_TAKEN".to_owned());
    }
    quirks
}

/// Returns what goes wrong in a normal plan.
pub(super) fn faults(dice: &mut Dice) -> Vec<String> {
    let mut faults = Vec::new();
    for _ in 0..dice.0.usize(1..6) {
        let kind = dice.pick(FaultKind::BASIC);
        let when = if dice.chance(0.25) {
            let from = dice.0.u64(0..40);
            format!("{from}s..{}s", from + dice.0.u64(1..60))
        } else {
            format!("{}%", dice.pick(&[5, 15, 30, 60]))
        };
        faults.push(format!("{}={when}", kind.name()));
    }
    if dice.chance(0.3) {
        faults.push(format!("list-lag={}s", dice.pick(&[5, 60, 300, 1_800])));
    }
    // A key that may create users and not list them.
    if dice.chance(0.08) {
        faults.push(format!("list-refused={}", dice.pick(&[401, 403, 404])));
    }
    faults
}

/// Returns what goes wrong in a crowded plan: mostly refusals that create no user.
pub(super) fn crowd(dice: &mut Dice) -> Vec<String> {
    use FaultKind::{Forbidden, NotFound, PaymentRequired, Throttled, ThrottledBare, ThrottledDate, Unauthorized};
    let kinds = [NotFound, Forbidden, Throttled, ThrottledBare, ThrottledDate, Unauthorized, PaymentRequired];
    let kinds = if dice.chance(0.6) { &kinds[..] } else { FaultKind::BASIC };
    (0..2).map(|_| format!("{}=25%", dice.pick(kinds).name())).collect()
}

/// Makes the codes for a used key and a taken email unknown ones.
pub(super) fn hide_codes(quirks: &mut Vec<String>) {
    quirks.retain(|quirk| !quirk.starts_with("key-used-code") && !quirk.starts_with("dup-user-code"));
    quirks.extend(["key-used-code=SENT_BEFORE", "dup-user-code=EMAIL_TAKEN"].map(str::to_owned));
}

/// Returns two faults of any kind, and answers without an id.
pub(super) fn without_ids(dice: &mut Dice) -> Vec<String> {
    let mut faults: Vec<_> = (0..2).map(|_| format!("{}=25%", dice.pick(FaultKind::BASIC).name())).collect();
    faults.push("id-none=50%".to_owned());
    faults
}

/// Returns two faults of any kind, and one that loses answers.
pub(super) fn lost_answers(dice: &mut Dice) -> Vec<String> {
    let lost = [FaultKind::Lost, FaultKind::Cut, FaultKind::Truncated, FaultKind::ErrorAfter, FaultKind::Html502];
    vec![
        format!("{}=25%", dice.pick(FaultKind::BASIC).name()),
        format!("{}=25%", dice.pick(FaultKind::BASIC).name()),
        format!("{}=25%", dice.pick(&lost).name()),
    ]
}
