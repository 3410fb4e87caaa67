//! The order in which a scan reads the pages of the list. Pure.
//!
//! A user who is looked up was mostly created minutes ago. So the end at which new users appear is read first:
//!
//! | the first page seems | then |
//! | --- | --- |
//! | sorted, newest first | page after page |
//! | sorted, oldest first | the last page, then back from page to page |
//! | unsorted | page after page |
//!
//! Neighbouring pages of a sorted list share a row. If they don't, users may have moved from one to the other between
//! the requests, and the run of rows that were read without a gap ends ([`SortedRun::break_off`]).

use std::collections::HashSet;

use super::digest::EmailDigest;
use super::known_order::{Anchor, FoundOrder, KnownOrder};
use super::rows::{ListRow, ReadPage, SortOrder};
use super::sorted_run::{SortedRun, seeming_order};

/// Requests for the last page until it is read. The list may grow between two of them.
const END_TRIES_MAX: u32 = 4;

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextPage {
    /// The one at [`ReadingPlan::next_skip`].
    Planned,
    /// The first one: nothing that was read so far counts.
    FromStart,
    /// None: pages for every position were read.
    Nothing,
}

#[derive(Debug)]
pub(super) struct ReadingPlan {
    stage: Stage,
    order: Option<SortOrder>,
    run: SortedRun,
    /// Rows of the first page, if the last page was read after it.
    front: Vec<ListRow>,
    /// Rows on a full page.
    page_rows: u64,
    anchor: Option<Anchor>,
}

#[derive(Debug)]
enum Stage {
    First,
    /// From page to page, towards the end of the list.
    Forward {
        next: u64,
        /// The rows of the page before.
        previous: HashSet<EmailDigest>,
    },
    /// The last page is wanted.
    Last {
        skip: u64,
        tries: u32,
    },
    Back(PartBack),
}

/// The part of the list before the rows that were read from the last page back. It takes more than one page if the API
/// sends fewer rows than it did.
#[derive(Debug)]
struct PartBack {
    start: u64,
    next: u64,
    rows: Vec<ListRow>,
    /// Position of the first row that was read before.
    known: u64,
    known_row: ListRow,
    /// The part must reach to this position, so that it has `known_row` if the rows are sorted.
    until: u64,
}

impl ReadingPlan {
    /// Returns the plan of a scan. `known`: the order that earlier scans have found.
    pub(super) fn new(known: &KnownOrder) -> Self {
        let mut plan = Self {
            stage: Stage::First,
            order: None,
            run: SortedRun::default(),
            front: Vec::new(),
            page_rows: 1,
            anchor: None,
        };
        if let Some(skip) = known.last_page() {
            plan.stage = Stage::Last { skip, tries: 0 };
            plan.order = Some(SortOrder::OldestFirst);
            plan.page_rows = known.page_rows();
        }
        plan
    }

    /// Returns the position from which on the next page is read.
    pub(super) const fn next_skip(&self) -> u64 {
        match &self.stage {
            Stage::First => 0,
            Stage::Forward { next, .. } => *next,
            Stage::Last { skip, .. } => *skip,
            Stage::Back(part) => part.next,
        }
    }

    /// Returns the order that the list seems to have; `None`: it isn't sorted, or that isn't known yet.
    pub(super) fn order(&self) -> Option<SortOrder> {
        self.order.filter(|_| !self.run.is_broken())
    }

    pub(super) const fn run(&self) -> &SortedRun {
        &self.run
    }

    /// Returns what the scan has found about the order. `is_whole_list`: it read the whole list.
    pub(super) fn found_order(&self, is_whole_list: bool) -> Option<FoundOrder> {
        let is_proven = is_whole_list && self.run.is_plainly_sorted();
        self.order().map(|order| FoundOrder { order, is_proven, anchor: self.anchor, page_rows: self.page_rows })
    }

    /// Records the page at [`Self::next_skip`].
    ///
    /// # Errors
    /// The list ended before its total.
    pub(super) fn record(&mut self, page: ReadPage<'_>) -> Result<NextPage, &'static str> {
        if page.end() < page.total && !page.rows.is_empty() {
            self.page_rows = page.len();
        }
        match std::mem::replace(&mut self.stage, Stage::First) {
            Stage::First => self.record_first(page),
            Stage::Forward { previous, .. } => self.record_forward(page, &previous),
            Stage::Last { tries, .. } => Ok(self.record_last(page, tries)),
            // It can't be recognised if it is read again, as rows of neighbouring pages are.
            Stage::Back(_) if page.rows.iter().any(|row| row.digest.is_none()) => Ok(self.start_over()),
            Stage::Back(part) => self.record_back(page, part),
        }
    }

    fn record_first(&mut self, page: ReadPage<'_>) -> Result<NextPage, &'static str> {
        self.order = seeming_order(page.rows);
        match self.order {
            Some(SortOrder::OldestFirst) if page.end() < page.total => {
                self.front = page.rows.to_vec();
                self.stage = Stage::Last { skip: self.last_page(page.total), tries: 0 };
                return Ok(NextPage::Planned);
            }
            Some(SortOrder::NewestFirst) => self.anchor = Anchor::on(page, SortOrder::NewestFirst),
            Some(SortOrder::OldestFirst) | None => self.run.break_off(),
        }
        page.rows.iter().for_each(|row| self.run.push(row.created_at));
        self.go_forward(page)
    }

    fn record_forward(
        &mut self,
        page: ReadPage<'_>,
        previous: &HashSet<EmailDigest>,
    ) -> Result<NextPage, &'static str> {
        let was_read = |row: &&ListRow| row.digest.is_some_and(|digest| previous.contains(&digest));
        if !page.rows.iter().any(|row| was_read(&row)) {
            self.run.break_off();
        }
        page.rows.iter().filter(|row| !was_read(row)).for_each(|row| self.run.push(row.created_at));
        self.go_forward(page)
    }

    fn go_forward(&mut self, page: ReadPage<'_>) -> Result<NextPage, &'static str> {
        if page.end() >= page.total {
            return Ok(NextPage::Nothing);
        }
        if page.rows.is_empty() {
            return Err("the list ended before its total");
        }
        if page.len() == 1 {
            // It can't be shared with the next page.
            self.run.break_off();
        }
        let (shared, previous) = if self.run.is_broken() {
            (0, HashSet::new())
        } else {
            (1, page.rows.iter().filter_map(|row| row.digest).collect())
        };
        self.stage = Stage::Forward { next: page.end() - shared, previous };
        Ok(NextPage::Planned)
    }

    /// Returns the position of the last page, with room for users who are created before it is read.
    fn last_page(&self, total: u64) -> u64 {
        total.saturating_sub(self.page_rows - self.page_rows / 8)
    }

    /// Reads the list from the first page to the last.
    fn start_over(&mut self) -> NextPage {
        self.run.break_off();
        self.stage = Stage::Forward { next: 0, previous: HashSet::new() };
        NextPage::FromStart
    }

    fn record_last(&mut self, page: ReadPage<'_>, tries: u32) -> NextPage {
        let is_last = page.end() >= page.total && !page.rows.is_empty();
        if is_last {
            page.rows.iter().rev().for_each(|row| self.run.push(row.created_at));
        }
        if self.run.is_broken() || tries + 1 == END_TRIES_MAX && !is_last {
            // The order has changed, or is that of the first page only.
            return self.start_over();
        }
        match page.rows.first() {
            Some(first) if is_last => {
                self.anchor = Anchor::on(page, SortOrder::OldestFirst);
                self.go_back(page.skip, *first)
            }
            _ => {
                self.stage = Stage::Last { skip: self.last_page(page.total), tries: tries + 1 };
                NextPage::Planned
            }
        }
    }

    /// Plans the part before `known`, the position of the first row that was read from the last page back.
    fn go_back(&mut self, known: u64, known_row: ListRow) -> NextPage {
        let front = self.front.len() as u64;
        if known <= front {
            let before = usize::try_from(known).unwrap_or(usize::MAX);
            self.front.iter().take(before).rev().for_each(|row| self.run.push(row.created_at));
            return NextPage::Nothing;
        }
        if self.page_rows == 1 {
            self.run.break_off();
        }
        let shared = u64::from(!self.run.is_broken());
        let start = known.saturating_sub(self.page_rows - shared).max(front.saturating_sub(shared));
        let until = known + shared;
        self.stage = Stage::Back(PartBack { start, next: start, rows: Vec::new(), known, known_row, until });
        NextPage::Planned
    }

    fn record_back(&mut self, page: ReadPage<'_>, mut part: PartBack) -> Result<NextPage, &'static str> {
        if page.rows.is_empty() {
            return Err("the list ended before its total");
        }
        part.rows.extend_from_slice(page.rows);
        if page.end() < part.until {
            // Nothing shows that no user moved between these pages.
            self.run.break_off();
            part.next = page.end();
            self.stage = Stage::Back(part);
            return Ok(NextPage::Planned);
        }
        let before = usize::try_from(part.known - part.start).unwrap_or(usize::MAX);
        if part.rows.get(before) != Some(&part.known_row) {
            self.run.break_off();
        }
        part.rows.iter().take(before).rev().for_each(|row| self.run.push(row.created_at));
        let first = part.rows.first().copied().unwrap_or(part.known_row);
        Ok(self.go_back(part.start, first))
    }
}
