//! Shapes of damaged values. Each function looks at a whole value, without an allocation: every cell passes here.

/// Words that programs write for an empty value, in lower case. `na` is missing on purpose: it is a name.
const PLACEHOLDERS: [&str; 31] = [
    "null",
    "(null)",
    "[null]",
    "\\n",
    "none",
    "nan",
    "nil",
    "n/a",
    "n.a.",
    "#n/a",
    "k.a.",
    "undefined",
    "unknown",
    "tbd",
    "tba",
    "test",
    "(blank)",
    "(leer)",
    "blank",
    "empty",
    "missing",
    "not set",
    "n.n.",
    "xxx",
    "-",
    "--",
    "---",
    "?",
    ".",
    "0",
    "<na>",
];

/// Longest of [`PLACEHOLDERS`], in bytes.
const PLACEHOLDER_BYTES_MAX: usize = 9;

/// Truth values of Excel in English, German, French, Spanish, Italian, Dutch and Polish, and `False` of each.
const TRUTH_VALUES: [&str; 14] = [
    "true",
    "false",
    "wahr",
    "falsch",
    "vrai",
    "faux",
    "verdadero",
    "falso",
    "vero",
    "falso",
    "waar",
    "onwaar",
    "prawda",
    "fałsz",
];

/// Error values that don't end with `!` or `?`.
const ERROR_VALUES: [&str; 6] = ["#n/a", "#n/d", "#nv", "#nd", "#getting_data", "#i/t"];

/// Abbreviated months of English, German, French, Spanish, Italian, Portuguese, Dutch and Polish, the languages of the
/// table of countries.
const MONTHS: [&str; 61] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "jän", "mär", "mrz",
    "mai", "okt", "dez", "janv", "févr", "fév", "mars", "avr", "juin", "juil", "août", "déc", "ene", "abr", "ago",
    "dic", "gen", "mag", "giu", "lug", "set", "ott", "fev", "out", "mrt", "mei", "sty", "lut", "kwi", "maj", "cze",
    "lip", "sie", "wrz", "paź", "lis", "gru", "juni", "juli", "mei", "abr", "jun", "jul", "ago", "nov",
];

/// Characters at which programs with short text columns cut.
const CUT_CHARS: usize = 255;

/// Error values of spreadsheets: `#REF!`, `#N/A`, `#¿NOMBRE?`, `Err:502`, and `####` for a column that was too narrow.
pub(super) fn is_error_value(value: &str) -> bool {
    let starts_like_libre_office = value.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("err:"));
    if starts_like_libre_office {
        return is_digits(&value[4..]);
    }
    let Some(rest) = value.strip_prefix('#') else { return false };
    if !rest.is_empty() && rest.bytes().all(|byte| byte == b'#') {
        return true;
    }
    if ERROR_VALUES.iter().any(|error| error.eq_ignore_ascii_case(value)) {
        return true;
    }
    let Some(name) = rest.strip_suffix(['!', '?']) else { return false };
    let name = name.trim_start_matches(['¡', '¿']);
    name.chars().count() >= 2 && name.chars().all(|c| c.is_uppercase() || matches!(c, '/' | '0' | '_'))
}

/// `1.23E+10`, `1,23E+10`, `5E-07`: digits, perhaps a fraction, an exponent with its sign. Without the sign only with a
/// fraction, because `3E5` is a house number.
pub(super) fn is_scientific(value: &str) -> bool {
    let bytes = value.strip_prefix(['-', '+']).unwrap_or(value).as_bytes();
    // Most values are done here.
    if !bytes.first().is_some_and(u8::is_ascii_digit) || !bytes.last().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'e' | b'E')) else { return false };
    let (mantissa, exponent) = (&bytes[..at], &bytes[at + 1..]);
    let points = mantissa.iter().filter(|byte| matches!(byte, b'.' | b',')).count();
    let is_mantissa = points <= 1 && mantissa.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','));
    let (has_sign, digits) = match exponent {
        [b'+' | b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let is_exponent = matches!(digits.len(), 1..=3) && digits.iter().all(u8::is_ascii_digit);
    is_mantissa && is_exponent && (has_sign || points == 1)
}

/// Digits and `.0` (or `,0`): programs convert a column of whole numbers with an empty cell to decimal numbers.
pub(in crate::domain) fn is_decimal_of_whole(value: &str) -> bool {
    value.strip_suffix(".0").or_else(|| value.strip_suffix(",0")).is_some_and(is_digits)
}

pub(super) fn is_digits(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn is_placeholder(value: &str) -> bool {
    value.len() <= PLACEHOLDER_BYTES_MAX && PLACEHOLDERS.iter().any(|word| word.eq_ignore_ascii_case(value))
}

pub(super) fn is_truth_value(value: &str) -> bool {
    matches!(value.len(), 4..=9) && TRUTH_VALUES.iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// Returns whether the text was probably cut: by programs that count characters, or bytes of UTF-8.
pub(super) fn is_cut(value: &str) -> bool {
    value.len() >= CUT_CHARS && (value.len() == CUT_CHARS || value.chars().count() == CUT_CHARS)
}

/// `01/02/2026`, `2026-01-02`, `2.1.26`, `2-Jan`, `Jan-26`, `02. Jan`, each with an optional time after it.
pub(super) fn looks_like_a_date(value: &str) -> bool {
    // `2026-01-02T00:00:00.000Z` is the longest.
    if !matches!(value.len(), 5..=32) || !value.bytes().any(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let date = match value.split_once([' ', 'T']) {
        Some((date, time)) if is_time(time) => date,
        _ => value,
    };
    is_numeric_date(date) || is_date_with_month(date)
}

fn is_time(text: &str) -> bool {
    text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || b":. APMapmZ+-".contains(&byte))
}

fn is_numeric_date(date: &str) -> bool {
    ['/', '-', '.'].into_iter().any(|separator| {
        let mut parts = date.split(separator);
        let (Some(a), Some(b), Some(c), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let number = |part: &str, max: u16| part.parse::<u16>().is_ok_and(|number| (1..=max).contains(&number));
        let is_day = |part: &str| part.len() <= 2 && number(part, 31);
        let is_year =
            |part: &str| part.len() == 4 && part.parse::<u16>().is_ok_and(|year| (1900..2100).contains(&year));
        let is_short_year = |part: &str| part.len() == 2 && is_digits(part);
        (is_day(a) && is_day(b) && (is_year(c) || (is_short_year(c) && separator != '-')))
            || (is_year(a) && is_day(b) && is_day(c))
    })
}

fn is_date_with_month(date: &str) -> bool {
    let Some((first, second)) = date.split_once(['-', ' ']) else { return false };
    let is_month = |part: &str| {
        let part = part.trim_end_matches('.');
        matches!(part.len(), 3..=5) && MONTHS.iter().any(|month| part.to_lowercase() == *month)
    };
    let is_hyphened = date.as_bytes().get(first.len()) == Some(&b'-');
    let is_number = |part: &str| matches!(part.len(), 1..=4) && is_digits(part);
    if is_hyphened {
        let (middle, year) = second.split_once('-').unwrap_or((second, ""));
        return (is_number(first) && is_month(middle) && (year.is_empty() || is_number(year)))
            || (is_month(first) && is_number(second));
    }
    // `02. Jan`: with the point, because `12 Mai` may be a street.
    first.strip_suffix('.').is_some_and(|day| day.len() <= 2 && is_digits(day)) && is_month(second)
}

/// Entities and tags of HTML: exports of web shops contain them.
pub(super) fn has_markup(value: &str) -> bool {
    const ENTITIES: [&str; 8] = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;", "&#39;", "&#x"];
    let has_entity = || {
        let from = value.find('&').unwrap_or_default();
        ENTITIES.iter().any(|entity| value[from..].contains(entity))
    };
    (value.contains('&') && has_entity()) || (value.contains('<') && value.contains('>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_values_of_spreadsheets_are_recognised_in_every_language() {
        for value in [
            "#REF!",
            "#N/A",
            "#n/a",
            "#NAME?",
            "#VALUE!",
            "#DIV/0!",
            "#NUM!",
            "#NULL!",
            "#SPILL!",
            "#GETTING_DATA",
            "#WERT!",
            "#BEZUG!",
            "#NV",
            "#ZAHL!",
            "#¡REF!",
            "#¿NOMBRE?",
            "#N/D",
            "#VALEUR!",
            "#ERROR!",
            "Err:502",
            "########",
        ] {
            assert!(is_error_value(value), "{value}");
        }
        for value in ["#5 Main Street", "#12", "#", "#Portland!", "# 4B!", "Errol", "Err:", "N/A", "Apt #N/A", "#A!"] {
            assert!(!is_error_value(value), "{value}");
        }
    }

    #[test]
    fn scientific_notation_is_recognised_and_house_numbers_are_not() {
        for value in ["1.23E+10", "1,23E+10", "4.4E10", "5E-07", "-1.5e+3", "1E+05"] {
            assert!(is_scientific(value), "{value}");
        }
        for value in ["3E5", "12E", "E12", "1.2.3E+4", "1E", "12E4567", "0x12E+3", "Route 1E+5", "1E+", "", "7e"] {
            assert!(!is_scientific(value), "{value}");
        }
    }

    #[test]
    fn dates_are_recognised_and_addresses_are_not() {
        for value in [
            "01/02/2026",
            "1/2/26",
            "2026-01-02",
            "12.03.2024",
            "2-Jan",
            "Jan-26",
            "12-Mär-24",
            "02. Jan",
            "5-Dez",
            "2026-01-02 00:00:00",
            "2026-01-02T00:00:00.000Z",
            "01/02/2026 12:00:00 AM",
        ] {
            assert!(looks_like_a_date(value), "{value}");
        }
        for value in [
            "1/2",
            "5-7",
            "12.10",
            "12-14-16",
            "1/2/3",
            "10-12-88",
            "12 Mai",
            "Mai-Straße 2",
            "Jan",
            "4-B",
            "32/1/2026",
            "99/99/2026",
            "B-12-2026",
            "Mar del Plata",
            "Straße des 17. Juni",
            "17. Juni 5",
        ] {
            assert!(!looks_like_a_date(value), "{value}");
        }
    }

    #[test]
    fn a_text_of_exactly_255_characters_or_bytes_was_probably_cut() {
        assert!(is_cut(&"x".repeat(255)) && is_cut(&"é".repeat(255)) && is_cut(&("é".repeat(127) + "x")));
        assert!(!is_cut(&"x".repeat(254)) && !is_cut(&"x".repeat(256)));
    }
}
