//! Input buffer of the record reader, which counts the lines of the bytes that were consumed.

use std::io::{self, Read};

/// Size of the buffer.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of `input` that aren't parsed yet, and the line on which they start.
///
/// **Invariant:** LF, CRLF and CR each count as one line.
pub(super) struct LineBuffer<R> {
    input: R,
    buffer: Box<[u8]>,
    /// `buffer[start..end]` isn't consumed yet.
    start: usize,
    end: usize,
    /// Line of the next byte, from 1.
    line: u64,
    /// Whether the last byte was a CR: an LF after it doesn't start another line.
    after_cr: bool,
}

impl<R: Read> LineBuffer<R> {
    pub(super) fn new(input: R) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { input, buffer, start: 0, end: 0, line: 1, after_cr: false }
    }

    /// Line of the next byte, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The buffered bytes, at most `bytes_max` of them.
    pub(super) fn unparsed(&self, bytes_max: usize) -> &[u8] {
        &self.buffer[self.start..self.end.min(self.start.saturating_add(bytes_max))]
    }

    /// Drops the first `bytes` buffered bytes and counts their lines.
    pub(super) fn consume(&mut self, bytes: usize) {
        for &byte in &self.buffer[self.start..self.start + bytes] {
            let is_lf_of_crlf = byte == b'\n' && self.after_cr;
            self.line += u64::from(matches!(byte, b'\r' | b'\n') && !is_lf_of_crlf);
            self.after_cr = byte == b'\r';
        }
        self.start += bytes;
    }

    /// Moves to the first byte of the next line that isn't blank. `false` if there is none.
    pub(super) fn skip_line_ends(&mut self) -> io::Result<bool> {
        loop {
            let blank = self.unparsed(usize::MAX).iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.consume(blank);
            if self.start < self.end {
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Reads more bytes if none is buffered. `false` at the end of the input.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.start < self.end {
            return Ok(true);
        }
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(bytes) => {
                    (self.start, self.end) = (0, bytes);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn append_line_end(&mut self) {
        self.buffer[0] = b'\n';
        (self.start, self.end) = (0, 1);
    }
}
