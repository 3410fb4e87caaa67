//! Damage that spreadsheets and exports do to values, whatever their column.
//!
//! | value | example | what is done |
//! | --- | --- | --- |
//! | formula that keeps a text | `="00123"` | unwrapped and reported |
//! | apostrophe that marks a text | `'00123` | unwrapped and reported |
//! | error value | `#REF!`, `#N/A`, `#WERT!`, `Err:502`, `########` | refused |
//! | formula | `=A1&B1` | refused |
//! | number in scientific notation | `1.23E+10` | refused: digits are lost |
//! | text of an empty value | `NULL`, `None`, `nan`, `-` | warning |
//! | decimal, date, truth value, digits in a text | `2139.0`, `01/02/2026`, `TRUE` | warning |
//! | text cut at 255 characters | | warning |
//! | markup, quotation marks around a text | `&amp;`, `"Portland"` | warning |
//!
//! Error values are those of Excel in its languages (`#` and capital letters up to `!` or `?`), Google Sheets and
//! LibreOffice. Every rule looks at the whole value, so that a name or address that only contains one of these texts passes.

use std::borrow::Cow;

use crate::domain::validate::FieldRefusal;
use crate::domain::validate::damage_shapes::{
    has_markup, is_cut, is_decimal_of_whole, is_digits, is_error_value, is_placeholder, is_scientific, is_truth_value,
    looks_like_a_date,
};
use crate::domain::{Field, Warning};

/// What a value turned out to be.
pub(super) enum DamageFinding<'v> {
    /// Nothing that these rules know.
    Whole,
    /// Another text was meant, without doubt; that text may be wrong itself.
    Unwrapped(&'v str, Warning, Option<Warning>),
    /// It can't be right, and what was meant is lost.
    Refused(FieldRefusal),
    /// It may be wrong.
    Doubtful(Warning),
}

/// Looks at a cleaned value that isn't empty. `given` is the value before it was cleaned: white space at its end shows
/// that it was cut.
pub(super) fn inspect<'v>(field: Field, given: &str, value: &'v str) -> DamageFinding<'v> {
    let first = value.as_bytes().first().copied().unwrap_or_default();
    match first {
        b'=' => return formula(field, value),
        b'\'' => {
            if let Some(found) = apostrophe(field, value) {
                return found;
            }
        }
        b'#' | b'E' | b'e' if is_error_value(value) => return DamageFinding::Refused(error_value()),
        _ => {}
    }
    // The rule of phone numbers has its own messages for numbers that a spreadsheet converted.
    if field != Field::PhoneNumber && is_scientific(value) {
        return DamageFinding::Refused(scientific());
    }
    let doubt = match field {
        // Italian numbers of eight digits begin with 0.
        Field::PhoneNumber => looks_like_a_date(value).then_some(DATE),
        Field::RedirectUrl => is_cut(given).then_some(CUT),
        _ if is_free_text(field) => doubt(field, value, first).or_else(|| is_cut(given).then_some(CUT)),
        _ => None,
    };
    doubt.map_or(DamageFinding::Whole, |(code, message)| {
        DamageFinding::Doubtful(Warning::doubtful(field, code, message))
    })
}

/// Returns the problem of a reference (`jobId`, `idempotencyKey`), which is never unwrapped: an upstream knows it
/// byte for byte.
pub(crate) fn reference_problem(value: &str) -> Option<(&'static str, String)> {
    if is_error_value(value) {
        return Some(error_value());
    }
    is_scientific(value).then(scientific)
}

fn error_value() -> FieldRefusal {
    (
        "SPREADSHEET_ERROR",
        "is an error value of a spreadsheet: correct the formula in the original file, or type the value".to_owned(),
    )
}

fn scientific() -> FieldRefusal {
    (
        "SCIENTIFIC_NOTATION",
        "was converted to scientific notation by a spreadsheet and has lost digits: format the column as text and \
         enter the value again"
            .to_owned(),
    )
}

/// Returns whether any text is allowed in a field, so that no other rule refuses a damaged value.
const fn is_free_text(field: Field) -> bool {
    matches!(
        field,
        Field::AccountPurpose | Field::Address | Field::City | Field::FirstName | Field::LastName | Field::Region
    )
}

/// `="00123"` keeps leading zeros in Excel. Any other formula has not been calculated.
fn formula(field: Field, value: &str) -> DamageFinding<'_> {
    let inner = value.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"')).filter(|inner| !inner.contains('"'));
    let Some(inner) = inner.map(str::trim) else {
        return DamageFinding::Refused((
            "FORMULA",
            "is a formula that was not calculated: write its result in the original file".to_owned(),
        ));
    };
    let report = Warning::converted(field, "UNWRAPPED_FORMULA", "was written as =\"...\": the text inside is sent");
    unwrapped(field, inner, report)
}

/// The text inside a wrapping, which may be damaged itself.
fn unwrapped(field: Field, inner: &str, report: Warning) -> DamageFinding<'_> {
    if inner.is_empty() {
        return DamageFinding::Unwrapped(inner, report, None);
    }
    match inspect(field, inner, inner) {
        DamageFinding::Refused(refusal) => DamageFinding::Refused(refusal),
        DamageFinding::Unwrapped(innermost, _, doubt) => DamageFinding::Unwrapped(innermost, report, doubt),
        DamageFinding::Doubtful(doubt) => DamageFinding::Unwrapped(inner, report, Some(doubt)),
        DamageFinding::Whole => DamageFinding::Unwrapped(inner, report, None),
    }
}

/// An apostrophe before a value marks it as text for a spreadsheet. Names and places may begin with one
/// (`'s-Hertogenbosch`, `'Abd`), so in a free text it is removed only before what a spreadsheet would convert.
fn apostrophe(field: Field, value: &str) -> Option<DamageFinding<'_>> {
    let inner = value[1..].trim_start();
    let is_text_mark = !is_free_text(field) || inner.starts_with(|c: char| c.is_ascii_digit() || "+-=@#".contains(c));
    if is_text_mark {
        return Some(unwrapped(field, inner, text_mark(field)));
    }
    // 's-Hertogenbosch, 't Harde, 's Gravenmoer.
    let is_dutch = matches!(inner.as_bytes(), [b's' | b't' | b'n' | b'k', b'-' | b' ', ..]);
    (!is_dutch).then(|| {
        let message = "begins with an apostrophe, perhaps the mark of a spreadsheet for text: remove it if it is";
        DamageFinding::Doubtful(Warning::doubtful(field, "LEADING_APOSTROPHE", message))
    })
}

const fn text_mark(field: Field) -> Warning {
    Warning::converted(field, "UNWRAPPED_APOSTROPHE", "began with an apostrophe, a spreadsheet's mark: it is not sent")
}

const DATE: (&str, &str) = (
    "LOOKS_LIKE_A_DATE",
    "looks like a date: a spreadsheet makes dates of texts such as 1/2 or 3-4; write what was meant",
);

const PLACEHOLDER: (&str, &str) =
    ("PLACEHOLDER", "looks like another program's text for an empty value: write what is true");

const TRUTH_VALUE: (&str, &str) =
    ("TRUTH_VALUE", "is a truth value in a text column: are the cells of this row shifted?");

const ADDED_DECIMAL: (&str, &str) = ("ADDED_DECIMAL", "ends with .0, which programs add to numbers: write it without");

const CUT: (&str, &str) = ("CUT_AT_255", "has exactly 255 characters, a limit of many programs: is its end missing?");

/// Returns code and message of a text that may be wrong.
fn doubt(field: Field, value: &str, first: u8) -> Option<(&'static str, &'static str)> {
    if is_placeholder(value) {
        return Some(PLACEHOLDER);
    }
    if (first.is_ascii_digit() || first == b'-')
        && let Some(found) = doubtful_number(field, value)
    {
        return Some(found);
    }
    if is_truth_value(value) {
        return Some(TRUTH_VALUE);
    }
    if looks_like_a_date(value) {
        return Some(DATE);
    }
    if value.len() > 2 && first == b'"' && value.ends_with('"') {
        return Some(("QUOTED", "has quotation marks around it, perhaps from a second export: remove them"));
    }
    if matches!(first, b'@' | b'+') {
        return Some(("LEADING_SYMBOL", "begins with @ or +: is it a formula, or are the cells of this row shifted?"));
    }
    if field != Field::AccountPurpose && value.contains('@') {
        return Some(("LOOKS_LIKE_AN_EMAIL", "contains @: are the cells of this row shifted?"));
    }
    has_markup(value).then_some(("MARKUP", "contains HTML, such as &amp;: write the character itself"))
}

fn doubtful_number(field: Field, value: &str) -> Option<(&'static str, &'static str)> {
    if is_decimal_of_whole(value) {
        return Some(ADDED_DECIMAL);
    }
    // Regions have numbers of up to three digits in several countries.
    if is_digits(value) && (field != Field::Region || value.len() > 3) {
        return Some(("DIGITS_ONLY", "has digits only: are the cells of this row shifted, or is it a date's number?"));
    }
    None
}

/// Returns code and message of a postal code that may be wrong in any country. Many countries have no known shape to
/// compare it with.
pub(super) fn postal_code_doubt(code: &str) -> Option<(&'static str, &'static str)> {
    if is_placeholder(code) {
        return Some(PLACEHOLDER);
    }
    if is_truth_value(code) {
        return Some(TRUTH_VALUE);
    }
    if is_decimal_of_whole(code) {
        return Some(ADDED_DECIMAL);
    }
    looks_like_a_date(code).then_some(DATE)
}

/// Returns the text of a postal code without `.0`, if it ends like that.
pub(super) fn without_added_decimal<'v>(value: &Cow<'v, str>) -> Option<Cow<'v, str>> {
    if !is_decimal_of_whole(value) {
        return None;
    }
    Some(match value {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..text.len() - 2]),
        Cow::Owned(text) => Cow::Owned(text[..text.len() - 2].to_owned()),
    })
}
