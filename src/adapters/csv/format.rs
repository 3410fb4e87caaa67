//! Recognises what a file is by its bytes, whatever its name says.

use std::io::{Read, Seek};

use serde::Deserialize;
use serde::de::IgnoredAny;
use zip::ZipArchive;

use crate::adapters::csv::workbook::WorkbookKind;

/// First bytes of a ZIP archive, and so of every .xlsx and .ods file.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// First bytes of an OLE document: every .xls file, and every .xlsx file with a password.
const OLE_MAGIC: &[u8] = b"\xD0\xCF\x11\xE0";
/// First bytes of a gzip file (RFC 1952).
const GZIP_MAGIC: &[u8] = b"\x1F\x8B";

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// Lines of separated cells.
    Text,
    /// One job a line, as JSON.
    Jobs,
    /// A sheet of a workbook.
    Workbook(WorkbookKind),
}

/// What a file is that can't be read. The text is what follows after its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForeignFormat {
    /// Many programs call a table in HTML `.xls`.
    #[error("is a web page (HTML), whatever its name says: open it in a spreadsheet and save it as .xlsx or CSV UTF-8")]
    Html,
    /// Excel 2003.
    #[error("is an XML spreadsheet of Excel 2003: open it in a spreadsheet and save it as .xlsx or CSV UTF-8")]
    XmlSpreadsheet,
    #[error("is XML: export the table as .xlsx or CSV UTF-8")]
    Xml,
    #[error(
        "is JSON, but not one job a line: write each person on a line as {{\"user\": {{\"firstName\": ..., ...}}}}, or \
         export the table as CSV UTF-8"
    )]
    Json,
    #[error("is a PDF document: export the table as .xlsx or CSV UTF-8")]
    Pdf,
    #[error("is a text document (RTF): copy the table into a spreadsheet and save it as .xlsx or CSV UTF-8")]
    Rtf,
    #[error("is a binary workbook (.xlsb): open it in Excel and save it as .xlsx")]
    Xlsb,
    #[error("is a document of Numbers: use File > Export To > Excel, and give that file")]
    Numbers,
    #[error(
        "is a document of Word or PowerPoint, not a workbook: copy the table into a spreadsheet and save it as .xlsx"
    )]
    Office,
    #[error("is a ZIP archive, not a workbook: unpack it and give the file in it")]
    Zip,
    #[error("is a damaged or incomplete ZIP file or workbook: download or save it again")]
    DamagedZip,
    #[error("is compressed twice, or a compressed workbook: unpack it and give the file in it")]
    CompressedWorkbook,
}

/// Whether a file is compressed by gzip.
pub(super) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(GZIP_MAGIC)
}

/// Recognises the format of a file by its first bytes. `file` is opened as an archive if they are those of one.
///
/// # Errors
/// [`ForeignFormat`] if it can't be read.
pub(super) fn recognise(head: &[u8], file: impl Read + Seek, is_unpacked: bool) -> Result<TableFormat, ForeignFormat> {
    let is_packed = head.starts_with(ZIP_MAGIC) || head.starts_with(OLE_MAGIC) || is_gzip(head);
    if is_packed && is_unpacked {
        return Err(ForeignFormat::CompressedWorkbook);
    }
    if head.starts_with(OLE_MAGIC) {
        return Ok(TableFormat::Workbook(WorkbookKind::Xls));
    }
    if head.starts_with(ZIP_MAGIC) {
        return archive(file).map(TableFormat::Workbook);
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'<') => Err(markup(text)),
        Some(b'{') if starts_with(text, b"{\\rtf") => Err(ForeignFormat::Rtf),
        Some(b'{') if is_job(text) => Ok(TableFormat::Jobs),
        Some(b'{' | b'[') => Err(ForeignFormat::Json),
        Some(b'%') if starts_with(text, b"%PDF") => Err(ForeignFormat::Pdf),
        _ => Ok(TableFormat::Text),
    }
}

fn archive(file: impl Read + Seek) -> Result<WorkbookKind, ForeignFormat> {
    let mut archive = ZipArchive::new(file).map_err(|_| ForeignFormat::DamagedZip)?;
    let mut kind = String::new();
    if let Ok(part) = archive.by_name("mimetype") {
        let _ = part.take(100).read_to_string(&mut kind);
    }
    if kind.contains("opendocument.spreadsheet") {
        return Ok(WorkbookKind::Ods);
    }
    let has = |fits: &dyn Fn(&str) -> bool| archive.file_names().flatten().any(|name| fits(&name.to_ascii_lowercase()));
    if has(&|name| name.ends_with("workbook.bin")) {
        return Err(ForeignFormat::Xlsb);
    }
    if has(&|name| name.contains("worksheets/") && name.ends_with(".xml")) {
        return Ok(WorkbookKind::Xlsx);
    }
    if has(&|name| name.ends_with(".iwa")) {
        return Err(ForeignFormat::Numbers);
    }
    let is_office = kind.contains("opendocument") || has(&|name| name == "[content_types].xml");
    Err(if is_office { ForeignFormat::Office } else { ForeignFormat::Zip })
}

fn markup(text: &[u8]) -> ForeignFormat {
    let text = String::from_utf8_lossy(&text[..text.len().min(2_048)]).to_lowercase();
    if text.contains("urn:schemas-microsoft-com:office:spreadsheet") && !text.contains("<html") {
        ForeignFormat::XmlSpreadsheet
    } else if ["<html", "<!doctype html", "<table", "<head", "<body", "<meta", "<div", "<style"]
        .iter()
        .any(|tag| text.contains(tag))
    {
        ForeignFormat::Html
    } else {
        ForeignFormat::Xml
    }
}

/// Whether the first line is an object with the member `user`.
fn is_job(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Job {
        #[serde(rename = "user")]
        _user: IgnoredAny,
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Job>(line).is_ok()
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.len() >= start.len() && text[..start.len()].eq_ignore_ascii_case(start)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn text_formats_are_recognised_by_their_first_bytes() {
        for (head, format) in [
            ("firstName,lastName\n", Ok(TableFormat::Text)),
            ("<b>,x\n<!DOCTYPE HTML>", Err(ForeignFormat::Html)),
            ("\u{FEFF}  \n<html xmlns:x=\"urn:schemas-microsoft-com:office:excel\">", Err(ForeignFormat::Html)),
            ("<table><tr><td>firstName", Err(ForeignFormat::Html)),
            (
                "<?xml version=\"1.0\"?><Workbook xmlns=\"urn:schemas-microsoft-com:office:spreadsheet\">",
                Err(ForeignFormat::XmlSpreadsheet),
            ),
            ("<?xml version=\"1.0\"?><people/>", Err(ForeignFormat::Xml)),
            ("{\"user\": {}, \"jobId\": \"1\"}\n{", Ok(TableFormat::Jobs)),
            ("{\"users\": []}", Err(ForeignFormat::Json)),
            ("{\n  \"user\": {}\n}", Err(ForeignFormat::Json)),
            ("[{\"user\": {}}]", Err(ForeignFormat::Json)),
            ("%PDF-1.7", Err(ForeignFormat::Pdf)),
            ("{\\rtf1", Err(ForeignFormat::Rtf)),
        ] {
            assert_eq!(recognise(head.as_bytes(), Cursor::new(head), false), format, "{head}");
        }
    }
}
