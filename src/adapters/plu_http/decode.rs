//! Decodes a compressed answer. The client asks for none (`Accept-Encoding: identity`), but a gateway may compress
//! nevertheless.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// The first bytes of gzip (RFC 1952, 2.3.1).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Returns the body as the API wrote it, cut at `bytes_max`. A body that isn't compressed as `content_encoding` says is
/// returned as it is.
pub(super) fn decoded(body: Vec<u8>, content_encoding: Option<&str>, bytes_max: usize) -> Vec<u8> {
    let is_deflate = content_encoding.is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("deflate"));
    // JSON doesn't begin like gzip, so the header isn't needed.
    if body.starts_with(GZIP_MAGIC) {
        read(GzDecoder::new(&*body), bytes_max)
    } else if !is_deflate || body.trim_ascii_start().starts_with(b"{") {
        body
    } else if begins_as_zlib(&body) {
        read(ZlibDecoder::new(&*body), bytes_max)
    } else {
        // Some servers leave out the format's header.
        read(DeflateDecoder::new(&*body), bytes_max)
    }
}

/// RFC 1950, 2.2: the method deflate, and the check bits of the header.
fn begins_as_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// Reads a stream. If its end is missing, what was read is right: TLS lets no other damage through. If the stream is
/// damaged or has a wrong checksum, none of it is used.
fn read(stream: impl Read, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    match stream.take(bytes_max as u64).read_to_end(&mut body) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Vec::new(),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::domain::answer::{ApiReply, RefusalMarks, classify};
    use crate::domain::{Answer, ServiceId, Timestamp, VerificationUrl};

    const BODY: &str = r#"{"status":"success","message":"ok","data":{"serviceId":"acme-user-1","verificationUrl":"https://v.example/1"}}"#;

    /// The body in every format, with the name in `Content-Encoding`.
    fn compressed(body: &[u8], level: Compression) -> [(&'static str, Vec<u8>); 3] {
        let (mut gzip, mut zlib, mut deflate) = (
            GzEncoder::new(Vec::new(), level),
            ZlibEncoder::new(Vec::new(), level),
            DeflateEncoder::new(Vec::new(), level),
        );
        gzip.write_all(body).unwrap();
        zlib.write_all(body).unwrap();
        deflate.write_all(body).unwrap();
        [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap()), (" Deflate", deflate.finish().unwrap())]
    }

    #[test]
    fn every_format_is_decoded_and_gzip_without_its_name_too() {
        for level in [Compression::none(), Compression::fast(), Compression::best()] {
            for (name, body) in compressed(BODY.as_bytes(), level) {
                assert_eq!(decoded(body, Some(name), 1_000), BODY.as_bytes(), "{name}");
            }
            let [(_, gzip), ..] = compressed(BODY.as_bytes(), level);
            assert_eq!(decoded(gzip, None, 1_000), BODY.as_bytes());
        }
    }

    #[test]
    fn a_body_that_is_not_compressed_stays_as_it_is() {
        for body in [BODY, "", "<html>", "\u{feff}{}"] {
            for name in [None, Some("gzip"), Some("identity"), Some("br")] {
                assert_eq!(decoded(body.into(), name, 1_000), body.as_bytes(), "{name:?}");
            }
        }
        assert_eq!(decoded(BODY.into(), Some("deflate"), 1_000), BODY.as_bytes());
    }

    #[test]
    fn a_stream_whose_end_is_missing_gives_its_beginning() {
        for (name, body) in compressed(BODY.as_bytes(), Compression::fast()) {
            let mut read = 0;
            for end in 2..body.len() {
                let text = decoded(body[..end].to_vec(), Some(name), 1_000);
                assert!(BODY.as_bytes().starts_with(&text) && text.len() >= read, "{name} {end}: {text:?}");
                read = text.len();
            }
            assert!(read > BODY.len() / 2, "{name}: {read}");
        }
    }

    #[test]
    fn a_stream_with_a_wrong_checksum_gives_no_user() {
        let right = created(BODY.as_bytes());
        // Stored as it is, so that a damaged bit changes a character and not the length.
        for (name, body) in &compressed(BODY.as_bytes(), Compression::none())[..2] {
            for bit in 0..body.len() * 8 {
                let mut damaged = body.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let (id, link) = created(&decoded(damaged, Some(name), 1_000));
                assert!(id.is_none() || id == right.0, "{name} {bit}: {id:?}");
                assert!(link.is_none() || link == right.1, "{name} {bit}: {link:?}");
            }
        }
    }

    fn created(body: &[u8]) -> (Option<ServiceId>, Option<VerificationUrl>) {
        let reply = ApiReply { status: 201, retry_after: None, content_type: None, date: None, body };
        match classify(&reply, &RefusalMarks::default(), Timestamp::from_unix_ms(0)) {
            Answer::Created { service_id, link } => (service_id, link.ok()),
            _ => (None, None),
        }
    }

    #[test]
    fn a_bomb_is_decoded_up_to_the_limit_only() {
        for (name, body) in compressed(&vec![b'x'; 10_000_000], Compression::best()) {
            assert!(body.len() < 50_000);
            assert_eq!(decoded(body, Some(name), 20_000), vec![b'x'; 20_000], "{name}");
        }
    }
}
