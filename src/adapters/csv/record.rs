//! Reads records from UTF-8 text, with the line on which each starts. Used by both passes over a file.
//!
//! It uses `csv-core`, because `csv::Reader` lets a record grow without limit and accepts a quotation mark that is
//! still open at the end of the file. The line that `csv::Reader` reports is also wrong after blank lines and after
//! CRLF.
//!
//! A record beyond the limit is cut if it is on one line, because then it can't contain other rows. If it spans several
//! lines, it is an error: a quotation mark may be closed only by one of a later row, which looks the same as a long
//! text with line breaks, and a cut would lose the rows in between. A record without an end is an error too.
//!
//! **Invariants:** no buffer grows beyond the limit of a record; LF, CRLF and CR each count as one line; a cut record
//! is marked as cut.

use std::io::{self, Read};

use csv::StringRecord;
use csv_core::{ReadRecordResult, ReaderBuilder};

use crate::adapters::csv::Delimiter;
use crate::adapters::csv::line_buffer::{BUFFER_BYTES, LineBuffer};
use crate::adapters::csv::quoting::QuoteWatch;
use crate::adapters::csv::workbook::WorkbookError;

/// Initial size of the buffer for one record. It grows with the records, up to the limit.
const RECORD_BYTES: usize = 1024;
/// Initial number of cell ends in the buffer for one record. It grows too.
const RECORD_CELLS: usize = 32;
/// A cut record is skipped up to this many times the limit. A record that is longer still has no end.
const SKIP_TIMES_MAX: usize = 16;

/// Why there is no next record. The caller adds the name of the file.
#[derive(Debug)]
pub(super) enum RecordError {
    /// Longer than the limit, and on several lines or without an end.
    TooLong { line: u64, bytes_max: usize },
    /// The text ends inside quotation marks.
    QuoteNotClosed { line: u64 },
    /// The input can't be read.
    Io(io::Error),
    /// The workbook can't be read.
    Workbook(WorkbookError),
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Line and cut of a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordInfo {
    /// Line on which it starts.
    pub(super) line: u64,
    /// The limit in bytes, if the record is longer. The rest of it isn't in the cells.
    pub(super) cut_at: Option<usize>,
    /// Whether a quotation mark has no meaning in CSV, so that the cells are a guess.
    pub(super) has_guessed_quotes: bool,
}

/// How much of `text` and `ends` a record fills.
struct ParsedRecord {
    text_bytes: usize,
    cell_count: usize,
    is_cut: bool,
}

/// Reads records from `input`, which must be UTF-8.
pub(super) struct RecordReader<R> {
    input: LineBuffer<R>,
    core: csv_core::Reader,
    quotes: QuoteWatch,
    /// Cells of the current record, without separators.
    text: Vec<u8>,
    /// End of each cell in `text`.
    ends: Vec<usize>,
    /// Output buffer for the rest of a cut record.
    skipped: Box<[u8]>,
    skipped_ends: [usize; RECORD_CELLS],
    bytes_max: usize,
}

impl<R: Read> RecordReader<R> {
    pub(super) fn new(input: R, delimiter: Delimiter, bytes_max: usize) -> Self {
        Self {
            input: LineBuffer::new(input),
            quotes: QuoteWatch::new(delimiter.byte()),
            core: ReaderBuilder::new().delimiter(delimiter.byte()).build(),
            text: vec![0; RECORD_BYTES],
            ends: vec![0; RECORD_CELLS],
            skipped: Box::default(),
            skipped_ends: [0; RECORD_CELLS],
            bytes_max,
        }
    }

    /// Reads the next record into `cells`; `None` at the end. The last cell of a cut record may be cut too.
    ///
    /// Skips blank lines, and records of white space and empty cells only: spreadsheets save unused rows like that.
    pub(super) fn read(&mut self, cells: &mut StringRecord) -> Result<Option<RecordInfo>, RecordError> {
        loop {
            cells.clear();
            if !self.input.skip_line_ends()? {
                return Ok(None);
            }
            let line = self.input.line();
            self.quotes.reset();
            let ParsedRecord { text_bytes, cell_count, is_cut } = self.parse(line)?;
            let text = match std::str::from_utf8(&self.text[..text_bytes]) {
                Ok(text) => text,
                // The cut is within a character.
                Err(error) if is_cut && error.error_len().is_none() => {
                    std::str::from_utf8(&self.text[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error).into()),
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
            let has_guessed_quotes = self.quotes.is_guessed();
            return Ok(Some(RecordInfo { line, cut_at: is_cut.then_some(self.bytes_max), has_guessed_quotes }));
        }
    }

    /// Parses one record, of which at least one byte is in the buffer.
    ///
    /// At the end of the input, the parser gets one more line end. It ends the last record, unless a quotation mark is
    /// open. `csv-core` itself would end the record even then, and the rows inside the quotation marks would be lost.
    fn parse(&mut self, line: u64) -> Result<ParsedRecord, RecordError> {
        let (mut read, mut text_bytes, mut cell_count) = (0, 0, 0);
        let (mut is_at_end, mut is_cut) = (false, false);
        loop {
            // One byte more than allowed shows that the record is too long.
            let read_max = if is_cut { self.bytes_max * SKIP_TIMES_MAX } else { self.bytes_max };
            let unparsed = self.input.unparsed(read_max + 1 - read);
            let (text, ends) = if is_cut {
                (&mut self.skipped[..], &mut self.skipped_ends[..])
            } else {
                (&mut self.text[text_bytes..], &mut self.ends[cell_count..])
            };
            let (result, nin, nout, nend) = self.core.read_record(unparsed, text, ends);
            self.quotes.feed(&unparsed[..nin]);
            self.input.consume(nin);
            read += nin;
            if !is_cut {
                text_bytes += nout;
                cell_count += nend;
            }
            let is_record = matches!(result, ReadRecordResult::Record | ReadRecordResult::End);
            if read > self.bytes_max {
                // The line end that ends the record, or the added one, is counted already.
                let is_one_line = self.input.line() - line <= u64::from(is_record || is_at_end);
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
                    return Ok(ParsedRecord { text_bytes, cell_count, is_cut });
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull if is_cut => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if self.input.fill()? => {}
                ReadRecordResult::InputEmpty if is_at_end => return Err(RecordError::QuoteNotClosed { line }),
                ReadRecordResult::InputEmpty => {
                    is_at_end = true;
                    self.input.append_line_end();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 100;

    /// Returns the records of `text` as `line: cell|cell`, and checks that the size of the reads doesn't matter.
    fn records_of(text: &str) -> Vec<String> {
        let whole = read_all(text.as_bytes());
        for piece_bytes in 1..5 {
            assert_eq!(read_all(Pieces { rest: text.as_bytes(), piece_bytes }), whole, "pieces of {piece_bytes}");
        }
        whole
    }

    fn read_all(input: impl Read) -> Vec<String> {
        let mut records = RecordReader::new(input, Delimiter::Comma, BYTES_MAX);
        let (mut cells, mut seen) = (StringRecord::new(), Vec::new());
        loop {
            match records.read(&mut cells) {
                Ok(None) => return seen,
                Ok(Some(RecordInfo { line, cut_at, .. })) => {
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
    fn line_numbers_are_right_for_every_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "c,\"d", "e\"", "", "f,g", ",", " , ", "", "h,", ""].join(end);
            let quoted = format!("2: c|d{end}e");
            assert_eq!(records_of(&text), ["1: a|b", &quoted, "5: f|g", "9: h|"], "{end:?}");
        }
        assert_eq!(records_of("a\r\nb\nc\rd\n\re"), ["1: a", "2: b", "3: c", "4: d", "6: e"]);
    }

    #[test]
    fn quotation_marks_are_removed_and_white_space_is_kept() {
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
    fn a_quotation_mark_open_at_the_end_is_an_error() {
        for text in ["a\nb,\"c\nd\ne", "a\nb,\"c\nd\ne\n", "a\nb,\""] {
            assert_eq!(records_of(text), ["1: a", "QuoteNotClosed { line: 2 }"], "{text:?}");
        }
    }

    #[test]
    fn a_record_at_the_limit_is_read_whole_and_a_longer_one_is_cut() {
        let record = "x".repeat(BYTES_MAX - 1);
        assert_eq!(records_of(&format!("a\n{record}\nb\n")).len(), 3);
        let cut = format!("2 (cut): {record}x");
        assert_eq!(records_of(&format!("a\n{record}x\nb\n")), ["1: a", &cut, "3: b"]);
        let many_blank_lines = "\n".repeat(10 * BYTES_MAX);
        assert_eq!(records_of(&format!("a\n{many_blank_lines}b")), ["1: a", "1002: b"]);
    }

    #[test]
    fn a_too_long_record_on_one_line_is_cut_and_the_next_ones_are_read() {
        for end in ["\n", "\r\n", "\r"] {
            for length in [BYTES_MAX, 2 * BYTES_MAX, SKIP_TIMES_MAX * BYTES_MAX - 20] {
                let text = ["a,b", &format!("c,\"d\"\"{}\",e", "é".repeat(length / 2)), "", "f,g", "h,i"].join(end);
                let kept = format!("2 (cut): c|d\"{}", "é".repeat((BYTES_MAX + 1 - 6) / 2));
                assert_eq!(records_of(&text), ["1: a|b", &kept, "4: f|g", "5: h|i"], "{length} {end:?}");
            }
            // Many cells, in the last record.
            let text = ["a,b".to_owned(), "c,".repeat(5 * BYTES_MAX)].join(end);
            let kept = format!("2 (cut): {}", vec!["c"; BYTES_MAX / 2 + 1].join("|"));
            assert_eq!(records_of(&text), ["1: a|b", &kept], "{end:?}");
        }
    }

    #[test]
    fn a_too_long_record_on_several_lines_or_without_end_is_an_error() {
        let too_long = format!("TooLong {{ line: 2, bytes_max: {BYTES_MAX} }}");
        let (half, twice) = ("x".repeat(BYTES_MAX / 2), "x".repeat(2 * BYTES_MAX));
        let endless = "x".repeat(SKIP_TIMES_MAX * BYTES_MAX + 1);
        for record in [format!("\"{half}\n{twice}\""), format!("\"{twice}\n{half}\""), endless] {
            assert_eq!(records_of(&format!("a\n{record}\nb\n")), ["1: a", &too_long]);
        }
        assert_eq!(records_of(&format!("a\n\"{twice}")), ["1: a", "QuoteNotClosed { line: 2 }"]);
    }

    #[test]
    fn buffers_grow_with_the_record_up_to_the_limit() {
        let cells = ",".repeat(10_000) + "x";
        let text = format!("{}\n{cells}\n", "y".repeat(10_000));
        let mut records = RecordReader::new(text.as_bytes(), Delimiter::Comma, 20_000);
        let mut record = StringRecord::new();
        assert_eq!(
            records.read(&mut record).unwrap(),
            Some(RecordInfo { line: 1, cut_at: None, has_guessed_quotes: false })
        );
        assert_eq!(record.get(0).map(str::len), Some(10_000));
        assert_eq!(
            records.read(&mut record).unwrap(),
            Some(RecordInfo { line: 2, cut_at: None, has_guessed_quotes: false })
        );
        assert_eq!(record.len(), 10_001);
        assert!(records.text.len() <= 40_000 && records.ends.len() <= 40_000);
    }
}
