//! Records out of UTF-8 text: where each starts, how long it may be, whether its quotation marks are closed.
//!
//! This stands on `csv-core` rather than on `csv::Reader`, which parses alike but lets a record grow without bound,
//! takes a quotation mark that is still open at the end of the file as closed there, and gives as a record's
//! line the one on which it *looked* for the record: off by the blank lines before it and by one after CRLF.
//!
//! A record beyond the limit that stands on one line is cut there, and the records after it go on: it can't have
//! swallowed any of them. One that goes on over several lines may have, by a quotation mark that is closed only
//! by one of a later record, and nobody can tell it from a long text with line breaks. To cut it would lose those
//! who were swallowed, so it is an error; and so is one without end.
//!
//! **Invariants:** no buffer grows beyond the limit of a record; LF, CRLF and CR each count as one line; a record
//! that is cut says so.

use std::io::{self, Read};

use csv::StringRecord;
use csv_core::{ReadRecordResult, ReaderBuilder};

use crate::adapters::csv::Delimiter;

/// Read from the input at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// First size of the space for one record; it grows with the records, up to the limit.
const RECORD_BYTES: usize = 1024;
/// First size of the space for the ends of cells; it grows like the above.
const RECORD_CELLS: usize = 32;
/// A record is skipped up to so many times its limit; one that is not over then is taken to have no end.
const SKIP_TIMES_MAX: usize = 16;

/// Why there is no next record, in a file that has no name here.
#[derive(Debug)]
pub(super) enum RecordError {
    /// Longer than the limit, and on several lines or without end.
    TooLong { line: u64, bytes_max: usize },
    /// The text ends inside quotation marks.
    QuoteNotClosed { line: u64 },
    /// The input can't be read.
    Io(io::Error),
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The line on which it starts.
    pub(super) line: u64,
    /// The limit in bytes, where the record is longer: what is beyond it is not in the cells.
    pub(super) cut_at: Option<usize>,
}

/// What a record fills of `text` and `ends`.
struct Parsed {
    text_bytes: usize,
    cell_count: usize,
    is_cut: bool,
}

/// Takes records from `input`, which must be UTF-8.
pub(super) struct Records<R> {
    input: R,
    core: csv_core::Reader,
    buffer: Box<[u8]>,
    /// What of `buffer` is yet to be parsed.
    start: usize,
    end: usize,
    /// The cells of the record that is being read, one after the other.
    text: Vec<u8>,
    /// Where in `text` each of them ends.
    ends: Vec<usize>,
    /// Takes what is skipped.
    skipped: Box<[u8]>,
    skipped_ends: [usize; RECORD_CELLS],
    bytes_max: usize,
    lines: Lines,
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R, delimiter: Delimiter, bytes_max: usize) -> Self {
        Self {
            input,
            core: ReaderBuilder::new().delimiter(delimiter.byte()).build(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            text: vec![0; RECORD_BYTES],
            ends: vec![0; RECORD_CELLS],
            skipped: Box::default(),
            skipped_ends: [0; RECORD_CELLS],
            bytes_max,
            lines: Lines { current: 1, after_cr: false },
        }
    }

    /// Reads the header, which is never cut, and returns the line on which it starts.
    pub(super) fn read_header(&mut self, titles: &mut StringRecord) -> Result<Option<u64>, RecordError> {
        match self.read(titles)? {
            Some(Found { line, cut_at: Some(bytes_max) }) => Err(RecordError::TooLong { line, bytes_max }),
            found => Ok(found.map(|found| found.line)),
        }
    }

    /// Reads the next record into `cells`; `None` at the end. Of one that is cut, the last cell may be cut too.
    ///
    /// Blank lines are skipped, and so are records of nothing but white space and empty cells: spreadsheets save
    /// their unused rows as such.
    pub(super) fn read(&mut self, cells: &mut StringRecord) -> Result<Option<Found>, RecordError> {
        loop {
            cells.clear();
            if !self.skip_line_ends()? {
                return Ok(None);
            }
            let line = self.lines.current;
            let Parsed { text_bytes, cell_count, is_cut } = self.parse(line)?;
            let text = match std::str::from_utf8(&self.text[..text_bytes]) {
                Ok(text) => text,
                // The cut went through a character.
                Err(error) if is_cut && error.error_len().is_none() => {
                    std::str::from_utf8(&self.text[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(error) => return Err(RecordError::Io(io::Error::new(io::ErrorKind::InvalidData, error))),
            };
            if text.trim_ascii().is_empty() && !is_cut {
                continue;
            }
            let mut start = 0;
            for &end in &self.ends[..cell_count] {
                cells.push_field(&text[start..end]);
                start = end;
            }
            if start < text.len() {
                cells.push_field(&text[start..]);
            }
            return Ok(Some(Found { line, cut_at: is_cut.then_some(self.bytes_max) }));
        }
    }

    /// Goes to the first byte of the next record. `false` where there is none.
    fn skip_line_ends(&mut self) -> Result<bool, RecordError> {
        loop {
            let waiting = &self.buffer[self.start..self.end];
            let blank = waiting.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines.pass(&waiting[..blank]);
            self.start += blank;
            if self.start < self.end {
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Parses one record, of which there is at least one byte.
    ///
    /// At the end of the input one more line end is given to the parser: it ends the last record, unless that is
    /// still inside quotation marks. `csv-core` would end such a record too, and the rows that the open quotation
    /// mark has swallowed would be lost without a word.
    fn parse(&mut self, line: u64) -> Result<Parsed, RecordError> {
        let (mut read, mut text_bytes, mut cell_count) = (0, 0, 0);
        let (mut is_over, mut is_cut) = (false, false);
        loop {
            // One more than allowed, to see that it is too much.
            let read_max = if is_cut { self.bytes_max * SKIP_TIMES_MAX } else { self.bytes_max };
            let end = self.end.min(self.start + (read_max + 1 - read));
            let waiting = &self.buffer[self.start..end];
            let (text, ends) = if is_cut {
                (&mut self.skipped[..], &mut self.skipped_ends[..])
            } else {
                (&mut self.text[text_bytes..], &mut self.ends[cell_count..])
            };
            let (result, nin, nout, nend) = self.core.read_record(waiting, text, ends);
            self.lines.pass(&waiting[..nin]);
            self.start += nin;
            read += nin;
            if !is_cut {
                text_bytes += nout;
                cell_count += nend;
            }
            let is_record = matches!(result, ReadRecordResult::Record | ReadRecordResult::End);
            if read > self.bytes_max {
                // The line end that ends a record, or the file, begins the next line already.
                let is_one_line = self.lines.current - line <= u64::from(is_record || is_over);
                if !is_one_line || read > self.bytes_max * SKIP_TIMES_MAX {
                    return Err(RecordError::TooLong { line, bytes_max: self.bytes_max });
                }
                if !is_cut {
                    is_cut = true;
                    self.skipped = vec![0; BUFFER_BYTES].into_boxed_slice();
                }
            }
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => {
                    return Ok(Parsed { text_bytes, cell_count, is_cut });
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull if is_cut => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if self.start < self.end || self.fill()? => {}
                ReadRecordResult::InputEmpty if is_over => return Err(RecordError::QuoteNotClosed { line }),
                ReadRecordResult::InputEmpty => {
                    is_over = true;
                    self.buffer[0] = b'\n';
                    (self.start, self.end) = (0, 1);
                }
            }
        }
    }

    /// Reads on once everything is parsed. `false` at the end of the input.
    fn fill(&mut self) -> Result<bool, RecordError> {
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(bytes) => {
                    (self.start, self.end) = (0, bytes);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RecordError::Io(error)),
            }
        }
    }
}

/// Counts physical lines.
struct Lines {
    /// The line of the next byte, from 1.
    current: u64,
    /// An LF that comes next belongs to the CR before it.
    after_cr: bool,
}

impl Lines {
    fn pass(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let is_second_half = byte == b'\n' && self.after_cr;
            self.current += u64::from(matches!(byte, b'\r' | b'\n') && !is_second_half);
            self.after_cr = byte == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 100;

    /// The records of `text` as `line: cell|cell`, however the input is cut into pieces.
    fn records_of(text: &str) -> Vec<String> {
        let whole = read_all(text.as_bytes());
        for piece_bytes in 1..5 {
            assert_eq!(read_all(Pieces { rest: text.as_bytes(), piece_bytes }), whole, "pieces of {piece_bytes}");
        }
        whole
    }

    fn read_all(input: impl Read) -> Vec<String> {
        let mut records = Records::new(input, Delimiter::Comma, BYTES_MAX);
        let (mut cells, mut seen) = (StringRecord::new(), Vec::new());
        loop {
            match records.read(&mut cells) {
                Ok(None) => return seen,
                Ok(Some(Found { line, cut_at })) => {
                    let cut = if cut_at.is_some() { " (cut)" } else { "" };
                    seen.push(format!("{line}{cut}: {}", cells.iter().collect::<Vec<_>>().join("|")));
                }
                Err(error) => {
                    seen.push(format!("{error:?}"));
                    return seen;
                }
            }
        }
    }

    struct Pieces<'a> {
        rest: &'a [u8],
        piece_bytes: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (piece, rest) = self.rest.split_at(self.piece_bytes.min(self.rest.len()));
            self.rest = rest;
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn lines_are_right_whatever_ends_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "c,\"d", "e\"", "", "f,g", ",", " , ", "", "h,", ""].join(end);
            let quoted = format!("2: c|d{end}e");
            assert_eq!(records_of(&text), ["1: a|b", &quoted, "5: f|g", "9: h|"], "{end:?}");
        }
        assert_eq!(records_of("a\r\nb\nc\rd\n\re"), ["1: a", "2: b", "3: c", "4: d", "6: e"]);
    }

    #[test]
    fn quotation_marks_are_taken_off_and_white_space_is_kept() {
        let text = "\"say \"\"hi\"\"\", x ,5\" pipe,\"\"\n\"a,b\"c,d";
        assert_eq!(records_of(text), ["1: say \"hi\"| x |5\" pipe|", "2: a,bc|d"]);
    }

    #[test]
    fn the_last_record_needs_no_line_end() {
        for text in ["a,b\nc,d", "a,b\nc,d\n", "a,b\nc,\"d\"", "a,b\n\n\nc,d\n\n\n"] {
            assert_eq!(records_of(text).len(), 2, "{text:?}");
        }
        assert_eq!(records_of(""), [""; 0]);
        assert_eq!(records_of("\n\r\n , \n"), [""; 0]);
    }

    #[test]
    fn a_quotation_mark_that_is_open_at_the_end_is_an_error_not_a_record() {
        for text in ["a\nb,\"c\nd\ne", "a\nb,\"c\nd\ne\n", "a\nb,\""] {
            assert_eq!(records_of(text), ["1: a", "QuoteNotClosed { line: 2 }"], "{text:?}");
        }
    }

    #[test]
    fn a_record_of_exactly_the_limit_is_read_whole_and_one_more_byte_is_too_much() {
        let record = "x".repeat(BYTES_MAX - 1);
        assert_eq!(records_of(&format!("a\n{record}\nb\n")).len(), 3);
        let cut = format!("2 (cut): {record}x");
        assert_eq!(records_of(&format!("a\n{record}x\nb\n")), ["1: a", &cut, "3: b"]);
        let many_blank_lines = "\n".repeat(10 * BYTES_MAX);
        assert_eq!(records_of(&format!("a\n{many_blank_lines}b")), ["1: a", "1002: b"]);
    }

    #[test]
    fn a_record_that_is_too_long_on_one_line_is_cut_and_the_others_go_on() {
        for end in ["\n", "\r\n", "\r"] {
            for length in [BYTES_MAX, 2 * BYTES_MAX, SKIP_TIMES_MAX * BYTES_MAX - 20] {
                let text = ["a,b", &format!("c,\"d\"\"{}\",e", "é".repeat(length / 2)), "", "f,g", "h,i"].join(end);
                let kept = format!("2 (cut): c|d\"{}", "é".repeat((BYTES_MAX + 1 - 6) / 2));
                assert_eq!(records_of(&text), ["1: a|b", &kept, "4: f|g", "5: h|i"], "{length} {end:?}");
            }
            // Many cells, and the last record.
            let text = ["a,b".to_owned(), "c,".repeat(5 * BYTES_MAX)].join(end);
            let kept = format!("2 (cut): {}", vec!["c"; BYTES_MAX / 2 + 1].join("|"));
            assert_eq!(records_of(&text), ["1: a|b", &kept], "{end:?}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_and_may_have_swallowed_others_is_an_error() {
        let too_long = format!("TooLong {{ line: 2, bytes_max: {BYTES_MAX} }}");
        let (half, twice) = ("x".repeat(BYTES_MAX / 2), "x".repeat(2 * BYTES_MAX));
        let endless = "x".repeat(SKIP_TIMES_MAX * BYTES_MAX + 1);
        for record in [format!("\"{half}\n{twice}\""), format!("\"{twice}\n{half}\""), endless] {
            assert_eq!(records_of(&format!("a\n{record}\nb\n")), ["1: a", &too_long]);
        }
        assert_eq!(records_of(&format!("a\n\"{twice}")), ["1: a", "QuoteNotClosed { line: 2 }"]);
    }

    #[test]
    fn space_grows_with_the_record_up_to_the_limit() {
        let cells = ",".repeat(10_000) + "x";
        let text = format!("{}\n{cells}\n", "y".repeat(10_000));
        let mut records = Records::new(text.as_bytes(), Delimiter::Comma, 20_000);
        let mut record = StringRecord::new();
        assert_eq!(records.read(&mut record).unwrap(), Some(Found { line: 1, cut_at: None }));
        assert_eq!(record.get(0).map(str::len), Some(10_000));
        assert_eq!(records.read(&mut record).unwrap(), Some(Found { line: 2, cut_at: None }));
        assert_eq!(record.len(), 10_001);
        assert!(records.text.len() <= 40_000 && records.ends.len() <= 40_000);
    }
}
