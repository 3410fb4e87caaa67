//! Compressed bodies: valid gzip, zlib and deflate streams of stored blocks.
//!
//! A client can't distinguish them from smaller ones by their format, so the sandbox needs no compressor.

use crate::sandbox::reply::{BodyEncoding, SandboxReply};

/// Maximum number of bytes in a stored block (RFC 1951, 3.2.4).
const BLOCK_BYTES_MAX: usize = 65_535;

impl SandboxReply {
    /// The body as it is on the wire.
    pub(super) fn encoded_body(&self) -> Vec<u8> {
        let body = self.body.as_bytes();
        self.content_encoding.map_or_else(|| body.to_vec(), |encoding| encoding.encode(body))
    }
}

impl BodyEncoding {
    /// The value of `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate | Self::RawDeflate => "deflate",
        }
    }

    fn encode(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::RawDeflate => deflate(body),
            Self::Deflate => [&[0x78, 0x01][..], &deflate(body), &adler32(body).to_be_bytes()].concat(),
            Self::Gzip => {
                // No name, no time, unknown system.
                let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
                let length = body.len() as u32;
                [&header[..], &deflate(body), &crc32(body).to_le_bytes(), &length.to_le_bytes()].concat()
            }
        }
    }
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(body.len() + 5 * (body.len() / BLOCK_BYTES_MAX + 1));
    let mut blocks = body.chunks(BLOCK_BYTES_MAX).peekable();
    loop {
        let block = blocks.next().unwrap_or_default();
        let is_last = blocks.peek().is_none();
        let length = block.len() as u16;
        stream.push(u8::from(is_last));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
        if is_last {
            return stream;
        }
    }
}

/// RFC 1952, 8.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
}

/// RFC 1950, 9.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % MODULUS;
        (low, (high + low) % MODULUS)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn streams_are_those_of_other_implementations() {
        // Python: zlib.compressobj(0, wbits=-15), zlib.compress(b"abc", 0).
        assert_eq!(BodyEncoding::RawDeflate.encode(b"abc"), b"\x01\x03\x00\xfc\xffabc");
        assert_eq!(BodyEncoding::Deflate.encode(b"abc"), b"\x78\x01\x01\x03\x00\xfc\xffabc\x02\x4d\x01\x27");
        let gzip = BodyEncoding::Gzip.encode(b"abc");
        assert_eq!(gzip[10..], *b"\x01\x03\x00\xfc\xffabc\xc2\x41\x24\x35\x03\x00\x00\x00");
        assert_eq!(BodyEncoding::RawDeflate.encode(b""), b"\x01\x00\x00\xff\xff");
    }

    #[test]
    fn long_bodies_have_more_than_one_block() {
        let body = vec![b'a'; BLOCK_BYTES_MAX + 1];
        let stream = deflate(&body);
        assert_eq!(stream.len(), body.len() + 10);
        assert_eq!((stream[0], stream[BLOCK_BYTES_MAX + 5]), (0, 1));
    }
}
