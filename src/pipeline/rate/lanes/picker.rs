//! Decides which lane is next: weighted round-robin with a credit for `bulk`.

use crate::domain::Lane;

/// Chooses between the lanes when both have a request. Every request that is sent earns bulk its share of one; a credit
/// of a whole request makes bulk the first. A bulk request that no signup competes with costs no credit, and at most
/// one request's credit is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LanePicker {
    bulk_share_percent: u32,
    credit_percent: u32,
}

impl LanePicker {
    /// `bulk_share_percent` is bulk's share of the requests while signups always wait; 0: none.
    pub(crate) const fn new(bulk_share_percent: u32) -> Self {
        Self { bulk_share_percent, credit_percent: 0 }
    }

    /// Changes bulk's share.
    pub(crate) const fn set_bulk_share(&mut self, percent: u32) {
        self.bulk_share_percent = percent;
    }

    /// Returns the lane that goes first if both have a request.
    pub(crate) const fn first(&self) -> Lane {
        if self.bulk_share_percent > 0 && self.credit_percent + self.bulk_share_percent >= 100 {
            Lane::Bulk
        } else {
            Lane::Signup
        }
    }

    /// Records that a request of this lane was chosen.
    pub(crate) fn took(&mut self, lane: Lane) {
        let credit = self.credit_percent + self.bulk_share_percent;
        self.credit_percent = match lane {
            Lane::Signup => credit.min(100),
            Lane::Bulk => credit.saturating_sub(100),
        };
    }

    /// Returns what bulk has earned, in hundredths of a request.
    pub(super) const fn credit_percent(&self) -> u32 {
        self.credit_percent
    }

    /// Restores an earlier credit, after a choice that was undone.
    pub(super) const fn restore_credit(&mut self, percent: u32) {
        self.credit_percent = percent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lanes of the first `count` requests when both lanes always have one.
    fn lanes(share_percent: u32, count: usize) -> Vec<Lane> {
        let mut picker = LanePicker::new(share_percent);
        let next = |_| {
            let lane = picker.first();
            picker.took(lane);
            lane
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn bulk_gets_its_share_and_never_two_requests_in_a_row_while_signups_wait() {
        for share_percent in [0, 1, 7, 10, 25, 33, 50] {
            let lanes = lanes(share_percent, 10_000);
            let bulk = lanes.iter().filter(|lane| **lane == Lane::Bulk).count();
            assert!(bulk.abs_diff(share_percent as usize * 100) <= 1, "{share_percent} %: {bulk} of 10,000");
            assert!(!lanes.windows(2).any(|two| two == [Lane::Bulk; 2]), "{share_percent} %");
        }
    }

    #[test]
    fn uncontested_requests_neither_cost_bulk_its_share_nor_add_up() {
        let mut picker = LanePicker::new(10);
        (0..1_000).for_each(|_| picker.took(Lane::Bulk));
        assert_eq!(picker.first(), Lane::Signup);
        (0..1_000).for_each(|_| picker.took(Lane::Signup));
        assert_eq!(picker.first(), Lane::Bulk);
        picker.took(Lane::Bulk);
        assert_eq!(picker.first(), Lane::Signup);
    }
}
