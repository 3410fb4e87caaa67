//! Texts of numbers, dates and times in cells. Pure.
//!
//! A whole number with a number format of digits and fixed characters becomes the text that the sheet shows, because
//! that is what a person sees as the postal code or phone number. Any other number becomes its value: `14155550132`
//! without `.0`, thousands separators or an exponent. Spreadsheets keep 15 digits. A longer number has lost its last
//! ones, so its text has an exponent, and validation refuses it.

use calamine::ExcelDateTime;

use crate::adapters::csv::workbook::number_format::NumberFormat;

/// Whole numbers from here on have more digits than a spreadsheet keeps.
const DIGITS_LOST_FROM: f64 = 1e15;

/// Returns the text of a number.
pub(super) fn number_text(value: f64, format: Option<&NumberFormat>) -> String {
    if value.fract() == 0.0 && value.abs() < DIGITS_LOST_FROM {
        let whole = value as i64;
        let shown = format.zip(u64::try_from(whole).ok()).and_then(|(format, value)| format.shown(value));
        return shown.unwrap_or_else(|| whole.to_string());
    }
    if value.abs() >= DIGITS_LOST_FROM {
        return format!("{value:.14E}").replace('E', "E+");
    }
    // 15 significant digits, as spreadsheets show them: 0.1 + 0.2 is 0.3.
    format!("{value:.14e}").parse::<f64>().unwrap_or(value).to_string()
}

/// Returns a date as `2026-02-01`, with its time if it has one; a time alone as `10:30:00`.
pub(super) fn date_text(date: ExcelDateTime) -> String {
    let days = date.as_f64();
    if date.is_duration() {
        let seconds = (days * 86_400.0).round() as i64;
        return format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    let (year, month, day, hour, minute, second, _) = date.to_ymd_hms_milli();
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    match (days < 1.0, days.fract() == 0.0) {
        (true, _) => time,
        (false, true) => format!("{year:04}-{month:02}-{day:02}"),
        (false, false) => format!("{year:04}-{month:02}-{day:02} {time}"),
    }
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType;

    use super::*;

    #[test]
    fn numbers_become_their_value_without_decimals_or_exponents() {
        for (value, text) in [
            (14_155_550_132.0, "14155550132"),
            (2_139.0, "2139"),
            (-3.0, "-3"),
            (0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (12.5, "12.5"),
            (999_999_999_999_999.0, "999999999999999"),
            (1.234_567_890_123_456e19, "1.23456789012346E+19"),
        ] {
            assert_eq!(number_text(value, None), text);
        }
        let format = NumberFormat::parse("00000");
        assert_eq!(number_text(2_139.0, format.as_ref()), "02139");
        assert_eq!(number_text(2_139.5, format.as_ref()), "2139.5");
    }

    #[test]
    fn dates_are_iso_8601() {
        for (days, kind, text) in [
            (46_054.0, ExcelDateTimeType::DateTime, "2026-02-01"),
            (46_054.5, ExcelDateTimeType::DateTime, "2026-02-01 12:00:00"),
            (0.437_5, ExcelDateTimeType::DateTime, "10:30:00"),
            (1.5, ExcelDateTimeType::TimeDelta, "36:00:00"),
        ] {
            assert_eq!(date_text(ExcelDateTime::new(days, kind, false)), text);
        }
    }
}
