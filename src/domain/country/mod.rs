//! What is known about countries: their names in words, and the shapes of their postal codes.
//!
//! Both tables are generated (`src/domain/country/make_tables.py`): names from Unicode CLDR, in eight languages and in each
//! country's own official languages; postal codes from Google's address metadata.

mod names;
mod postal;

pub(in crate::domain) use names::code_of_words;
pub(in crate::domain) use postal::{PostalFit, postal_fit};

/// Lines of a generated table: `CODE`, a tab, and entries separated by `|`.
fn entries(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
}
