//! Parts of a zipped workbook (.xlsx, .ods), read as XML in constant memory.

use std::io::{self, BufReader, Read, Seek};

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::BytesStart;
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::adapters::csv::workbook::WorkbookError;

/// Most bytes of a part that is held in memory.
pub(super) const PART_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) type PartReader<'a, R> = Reader<BufReader<ZipFile<'a, R>>>;

/// Opens a part. `None`: there is none with this name.
pub(super) fn part<'a, R: Read + Seek>(archive: &'a mut ZipArchive<R>, name: &str) -> Option<PartReader<'a, R>> {
    let mut reader = Reader::from_reader(BufReader::new(archive.by_name(name).ok()?));
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_end_names = false;
    Some(reader)
}

/// Refuses an archive with a part that the caller would hold in memory and that is too large for it.
pub(super) fn check_size<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    is_held: impl Fn(&str) -> bool,
) -> Result<(), WorkbookError> {
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(|_| WorkbookError::Damaged)?;
        let is_held = part.name().is_ok_and(|name| is_held(&name));
        if is_held && part.size() > PART_BYTES_MAX {
            return Err(WorkbookError::TooLarge);
        }
    }
    Ok(())
}

/// Reads parts to their ends, where their checksums are compared. A parser that stops at the last element doesn't.
pub(super) fn check_intact<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    is_read: impl Fn(&str) -> bool,
) -> Result<(), WorkbookError> {
    for index in 0..archive.len() {
        // Pictures, which aren't read, may be compressed in other ways.
        if !archive.name_for_index(index).is_some_and(|name| name.is_ok_and(|name| is_read(&name))) {
            continue;
        }
        let mut part = archive.by_index(index).map_err(|_| WorkbookError::Damaged)?;
        io::copy(&mut part, &mut io::sink()).map_err(|_| WorkbookError::Damaged)?;
    }
    Ok(())
}

/// Returns the value of an attribute, by its name with or without a prefix.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    let mut named = attributes.with_checks(false).flatten().filter(|attribute| attribute.key.as_ref() == name);
    named.next()?.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
}
