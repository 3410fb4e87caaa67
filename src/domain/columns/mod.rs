//! Looks at whole columns: what no single row shows.
//!
//! | finding | example |
//! | --- | --- |
//! | a value that many rows share | one IP address, phone number or address |
//! | a series that was filled down | `+14155550001`, `+14155550002`, ... |
//! | example values of documentation | `+14155555555`, `203.0.113.0/24`, `example.com` |
//! | near-duplicates | the same name and phone number, or the same Gmail mailbox, with another email |
//! | references that another program converted to decimals | `17.0` in `jobId` |
//! | phone numbers without `+` | |
//! | countries | how many rows have which |
//!
//! Rows are added one after the other, and memory doesn't grow with them (at most 17 MiB). A finding never contains a
//! value, only lines.

mod finding;
mod frequent;
mod row_facts;
mod seen;

pub use self::finding::{ColumnFinding, FindingWeight};
use self::frequent::FrequentValues;
pub use self::row_facts::RowFacts;
use self::row_facts::{SERIES_FIELDS, SeriesPoint};
use self::seen::SeenHashes;
use crate::domain::Field;

/// Collects facts about the rows of a file.
pub struct ColumnSurvey {
    rows: u64,
    phones_without_plus: u64,
    job_ids_with_decimal: LineCount,
    vendor_examples: LineCount,
    reserved_examples: LineCount,
    ips: FrequentValues,
    phones: FrequentValues,
    addresses: FrequentValues,
    series: [SeriesSearch; SERIES_FIELDS.len()],
    seen: SeenHashes,
    same_person: LineCount,
    same_mailbox: LineCount,
    countries: Vec<u64>,
}

/// How many rows, and the first of their lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineCount {
    pub(crate) rows: u64,
    pub(crate) first_line: u64,
}

impl LineCount {
    fn add(&mut self, line: u64) {
        if self.rows == 0 {
            self.first_line = line;
        }
        self.rows += 1;
    }
}

/// Finds the longest run of rows whose number is one more than that of the row before.
#[derive(Default, Clone, Copy)]
struct SeriesSearch {
    last: Option<SeriesPoint>,
    run: LineCount,
    longest: LineCount,
}

impl SeriesSearch {
    fn add(&mut self, point: Option<SeriesPoint>, line: u64) {
        let continues = self.last.zip(point).is_some_and(|(last, point)| point.follows(last));
        if !continues {
            self.run = LineCount::default();
        }
        self.run.add(line);
        if self.run.rows > self.longest.rows {
            self.longest = self.run;
        }
        self.last = point;
    }
}

const LETTERS: usize = 26;

impl Default for ColumnSurvey {
    fn default() -> Self {
        Self {
            rows: 0,
            phones_without_plus: 0,
            job_ids_with_decimal: LineCount::default(),
            vendor_examples: LineCount::default(),
            reserved_examples: LineCount::default(),
            ips: FrequentValues::new(),
            phones: FrequentValues::new(),
            addresses: FrequentValues::new(),
            series: [SeriesSearch::default(); SERIES_FIELDS.len()],
            seen: SeenHashes::new(),
            same_person: LineCount::default(),
            same_mailbox: LineCount::default(),
            countries: vec![0; LETTERS * LETTERS],
        }
    }
}

impl ColumnSurvey {
    /// Adds a row that is neither a repeat of another nor rejected.
    pub fn add(&mut self, facts: &RowFacts, line: u64) {
        self.rows += 1;
        self.phones_without_plus += u64::from(!facts.phone_has_plus);
        if facts.job_id_has_decimal {
            self.job_ids_with_decimal.add(line);
        }
        if facts.has_vendor_example {
            self.vendor_examples.add(line);
        } else if facts.has_reserved_example {
            self.reserved_examples.add(line);
        }
        self.ips.add(facts.ip, line);
        self.phones.add(facts.phone, line);
        self.addresses.add(facts.address, line);
        for (search, point) in self.series.iter_mut().zip(facts.series) {
            search.add(point, line);
        }
        if self.seen.replace(facts.person) {
            self.same_person.add(line);
        } else if facts.mailbox.is_some_and(|mailbox| self.seen.replace(mailbox)) {
            self.same_mailbox.add(line);
        }
        let letter = |byte: u8| usize::from(byte.saturating_sub(b'A')).min(LETTERS - 1);
        self.countries[letter(facts.country[0]) * LETTERS + letter(facts.country[1])] += 1;
    }

    /// What was found, questions first.
    pub fn findings(&self) -> Vec<ColumnFinding> {
        let rows = self.rows;
        let mut findings = Vec::new();
        for (field, values) in
            [(Field::IpAddress, &self.ips), (Field::PhoneNumber, &self.phones), (Field::Address, &self.addresses)]
        {
            let most = values.most_frequent();
            findings.extend(most.and_then(|(count, first_line)| finding::shared(field, count, first_line, rows)));
        }
        for (field, search) in SERIES_FIELDS.into_iter().zip(&self.series) {
            findings.extend(finding::series(field, search.longest));
        }
        findings.extend(finding::job_ids_with_decimal(self.job_ids_with_decimal));
        findings.extend(finding::vendor_examples(self.vendor_examples));
        findings.extend(finding::reserved_examples(self.reserved_examples, rows));
        findings.extend(finding::same_person(self.same_person, rows));
        findings.extend(finding::same_mailbox(self.same_mailbox, rows));
        findings.extend(finding::without_plus(self.phones_without_plus, rows));
        findings.extend(finding::countries(self.country_counts(), rows));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
        findings
    }

    /// Countries by number of rows, the most frequent first.
    fn country_counts(&self) -> Vec<(String, u64)> {
        let letter = |index: usize| char::from(b'A' + (index as u8));
        let counts = self.countries.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut counts: Vec<_> = counts
            .map(|(index, count)| (String::from_iter([letter(index / LETTERS), letter(index % LETTERS)]), *count))
            .collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts
    }
}

#[cfg(test)]
mod tests;
