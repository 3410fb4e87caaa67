//! Result files of a run, read as a user's program reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A result folder.
pub(crate) struct Results(pub(crate) PathBuf);

impl Results {
    pub(crate) fn table(&self, name: &str) -> Table {
        Table::read(&self.0.join(format!("{name}.csv")))
    }

    pub(crate) fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.0.join("summary.json")).unwrap()).unwrap()
    }

    /// Returns the counts of the summary: created, existing, rejected, failed, waiting.
    pub(crate) fn tally(&self) -> [u64; 5] {
        let summary = self.summary();
        ["created", "existing", "rejected", "failed", "waiting"].map(|name| summary[name].as_u64().unwrap())
    }

    /// Returns every event. Checks that each line is complete, and that no event id and no job occurs twice.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join("results.ndjson")).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is incomplete");
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for field in ["id", "jobId"] {
            let different: BTreeSet<&str> = events.iter().map(|event| event[field].as_str().unwrap()).collect();
            assert_eq!(different.len(), events.len(), "events with the same {field}");
        }
        events
    }

    /// Returns the number of complete lines of `results.ndjson`, while a program writes it.
    pub(crate) fn event_lines(&self) -> usize {
        fs::read(self.0.join("results.ndjson")).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
    }
}

/// A CSV file.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) titles: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Self {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).unwrap();
        let cells = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
        let titles = cells(reader.headers().unwrap());
        Self { titles, rows: reader.records().map(|record| cells(&record.unwrap())).collect() }
    }

    fn position(&self, title: &str) -> usize {
        self.titles.iter().position(|other| other == title).unwrap_or_else(|| panic!("no column {title}"))
    }

    pub(crate) fn column(&self, title: &str) -> Vec<&str> {
        let position = self.position(title);
        self.rows.iter().map(|row| row[position].as_str()).collect()
    }

    /// Returns the rows by their email.
    pub(crate) fn by_email(&self) -> BTreeMap<&str, &[String]> {
        self.column("email").into_iter().zip(self.rows.iter().map(Vec::as_slice)).collect()
    }

    pub(crate) fn set(&mut self, row: usize, title: &str, cell: &str) {
        let position = self.position(title);
        cell.clone_into(&mut self.rows[row][position]);
    }

    pub(crate) fn write(&self, path: &Path) {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_path(path).unwrap();
        for record in std::iter::once(&self.titles).chain(&self.rows) {
            writer.write_record(record).unwrap();
        }
        writer.flush().unwrap();
    }
}
