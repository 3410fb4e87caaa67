//! Recognises quotation marks that have to be guessed (RFC 4180 has no meaning for them). Pure; fed with the bytes of
//! each record.
//!
//! | text | a lenient parser reads | but it may mean |
//! | --- | --- | --- |
//! | `"Haus" Nr 5` | `Haus Nr 5` | `"Haus" Nr 5` |
//! | `"12 \"A\" Street"` | `12 \A\" Street"` | `12 "A" Street`, escaped as in C |
//! | `a, "b, c"` | ` "b` and ` c"` | `b, c` |
//!
//! A mark within a cell that doesn't begin with one is part of the text, as in `5" pipe`.

/// Where the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuotePlace {
    CellStart,
    /// Only spaces of the cell so far.
    LeadingSpace,
    Unquoted,
    Quoted,
    /// Behind a mark within quotation marks: it closes the cell, or the next byte is a mark too.
    AfterMark,
    /// Spaces behind the closing mark.
    TrailingSpace,
}

/// Follows the quotation marks of a record.
#[derive(Debug)]
pub(super) struct QuoteWatch {
    delimiter: u8,
    place: QuotePlace,
    is_guessed: bool,
}

impl QuoteWatch {
    pub(super) const fn new(delimiter: u8) -> Self {
        Self { delimiter, place: QuotePlace::CellStart, is_guessed: false }
    }

    /// Begins a record.
    pub(super) const fn reset(&mut self) {
        self.place = QuotePlace::CellStart;
        self.is_guessed = false;
    }

    /// Whether a mark of the record so far has to be guessed.
    pub(super) const fn is_guessed(&self) -> bool {
        self.is_guessed
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        use QuotePlace::{CellStart, LeadingSpace, Unquoted};
        if matches!(self.place, CellStart | LeadingSpace | Unquoted) && !bytes.contains(&b'"') {
            // Most records have no marks: only the last cell matters, if the record continues in the next bytes.
            let cell_start = bytes.iter().rposition(|byte| *byte == self.delimiter);
            if cell_start.is_some() {
                self.place = CellStart;
            }
            let cell = &bytes[cell_start.map_or(0, |at| at + 1)..];
            cell.iter().for_each(|byte| self.step(*byte));
            return;
        }
        bytes.iter().for_each(|byte| self.step(*byte));
    }

    fn step(&mut self, byte: u8) {
        use QuotePlace::{AfterMark, CellStart, LeadingSpace, Quoted, TrailingSpace, Unquoted};
        let is_end = byte == self.delimiter || matches!(byte, b'\r' | b'\n');
        self.place = match (self.place, byte) {
            (Quoted, b'"') => AfterMark,
            (AfterMark, b'"') | (Quoted, _) => Quoted,
            (_, _) if is_end => CellStart,
            (CellStart, b'"') => Quoted,
            (LeadingSpace, b'"') => {
                self.is_guessed = true;
                Unquoted
            }
            (CellStart | LeadingSpace, b' ') => LeadingSpace,
            (AfterMark | TrailingSpace, b' ') => TrailingSpace,
            (AfterMark | TrailingSpace, _) => {
                self.is_guessed = true;
                Unquoted
            }
            (CellStart | LeadingSpace | Unquoted, _) => Unquoted,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_guessed(record: &str) -> bool {
        let whole = guessed_in_pieces(record, record.len());
        for piece_bytes in 1..6 {
            assert_eq!(guessed_in_pieces(record, piece_bytes), whole, "{record} in pieces of {piece_bytes}");
        }
        whole
    }

    fn guessed_in_pieces(record: &str, piece_bytes: usize) -> bool {
        let mut watch = QuoteWatch::new(b',');
        record.as_bytes().chunks(piece_bytes).for_each(|piece| watch.feed(piece));
        watch.is_guessed()
    }

    #[test]
    fn marks_that_have_to_be_guessed_are_found() {
        for record in [
            "a,\"Haus\" Nr 5,b\n",
            "a,\"12 \\\"A\\\" Street\",b\n",
            "a, \"b, c\",d\n",
            "\"a\"b,c\n",
            "a,\"b\"\"c\" d\n",
            "a,\"b\" \"c\"\n",
        ] {
            assert!(is_guessed(record), "{record}");
        }
    }

    #[test]
    fn marks_as_in_the_standard_are_not_guessed() {
        for record in [
            "a,b,c\n",
            "\"a\",\"b, c\",\"d\"\"e\"\r\n",
            "a,5\" pipe,b\n",
            "a,\"two\nlines, and\",b\n",
            "\"\",\"\"\"\",\"\"\"a\"\"\"\n",
            "a,\"b\" ,c\n",
            " a , b , c \n",
            "a,\"ends\"",
        ] {
            assert!(!is_guessed(record), "{record}");
        }
    }
}
