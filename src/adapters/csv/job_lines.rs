//! NDJSON: one job a line. The job is parsed as it is; its cells are only for the result files.

use std::io::{BufRead, BufReader, Read};

use csv::StringRecord;
use serde_json::{Map, Value};

use crate::adapters::csv::record::RecordError;
use crate::adapters::csv::row::CsvRow;
use crate::adapters::csv::row_source::RowSource;
use crate::domain::Field;

/// Members of a job beside its user that have a column.
const JOB_TITLES: [&str; 2] = ["jobId", "idempotencyKey"];

/// Titles of the columns: the line, the members of a job and of its user, the metadata as JSON.
pub(super) fn titles() -> impl Iterator<Item = &'static str> {
    ["line"].into_iter().chain(JOB_TITLES).chain(Field::ALL.map(Field::name)).chain(["metadata"])
}

/// Reads the lines of a file.
pub(super) struct JobLines<R> {
    input: BufReader<R>,
    line: u64,
    bytes_max: usize,
}

impl<R: Read> JobLines<R> {
    pub(super) fn new(input: R, bytes_max: usize) -> Self {
        Self { input: BufReader::with_capacity(64 * 1024, input), line: 0, bytes_max }
    }

    /// Reads a line without its end; `None` at the end of the file. The rest of a line beyond the limit is skipped.
    fn read_line(&mut self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        let mut text = Vec::new();
        let limit = self.bytes_max as u64 + 1;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        let is_cut = text.len() as u64 == limit && text.last() != Some(&b'\n');
        if is_cut {
            self.input.skip_until(b'\n')?;
        }
        Ok(Some((text, is_cut)))
    }
}

impl<R: Read + Send> RowSource for JobLines<R> {
    fn read(&mut self, row: &mut CsvRow) -> Result<bool, RecordError> {
        loop {
            let Some((text, is_cut)) = self.read_line()? else { return Ok(false) };
            let start = if self.line == 1 { text.strip_prefix(b"\xEF\xBB\xBF") } else { None };
            let job = start.unwrap_or(&text).trim_ascii();
            if job.is_empty() {
                continue;
            }
            row.line = self.line;
            row.cells = cells(self.line, if is_cut { b"" } else { job });
            row.cut_at = is_cut.then_some(self.bytes_max);
            row.job = Some(job.into());
            return Ok(true);
        }
    }
}

/// Returns the cells below [`titles`]. A member that isn't a text is shown as JSON; a line that is no job has none.
fn cells(line: u64, job: &[u8]) -> StringRecord {
    let job: Map<String, Value> = serde_json::from_slice(job).unwrap_or_default();
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let user = job.get("user").and_then(Value::as_object);
    let mut cells = StringRecord::new();
    cells.push_field(&line.to_string());
    JOB_TITLES.iter().for_each(|name| cells.push_field(&text(job.get(*name))));
    Field::ALL.iter().for_each(|field| cells.push_field(&text(user.and_then(|user| user.get(field.name())))));
    cells.push_field(&text(job.get("metadata")));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_job_with_cells_for_the_result_files() {
        let text = "\u{FEFF}{\"jobId\":\"a\",\"user\":{\"city\":\"Elko\",\"isTermsOfServiceAccepted\":true}}\r\n\n  \nnot json\n\
                    {\"metadata\":{\"x\":1},\"user\":null}";
        let mut lines = JobLines::new(text.as_bytes(), 100);
        let mut rows = Vec::new();
        let mut row = CsvRow::default();
        while lines.read(&mut row).unwrap() {
            let cells: Vec<_> = row.cells.iter().filter(|cell| !cell.is_empty()).collect();
            rows.push(format!("{}: {}", row.line, cells.join("|")));
            assert_eq!(row.cells.len(), titles().count());
        }
        assert_eq!(rows, ["1: 1|a|Elko|true", "4: 4", "5: 5|{\"x\":1}"]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_one_is_read() {
        let text = format!("{{\"user\":\"{}\"}}\n{{\"user\":{{}}}}\n", "x".repeat(1_000));
        let mut lines = JobLines::new(text.as_bytes(), 50);
        let mut row = CsvRow::default();
        assert!(lines.read(&mut row).unwrap() && row.cut_at == Some(50));
        assert!(lines.read(&mut row).unwrap() && row.cut_at.is_none() && row.line == 2);
        assert!(!lines.read(&mut row).unwrap());
    }
}
