//! A generator that damages right values in every column as spreadsheets and exports do. No damaged value may be sent
//! without a word: it is refused, warned of, or what is sent is what was right.

use std::borrow::Cow;

use encoding_rs::{MACINTOSH, WINDOWS_1252};

use crate::domain::validate::validate;
use crate::domain::{Field, RawUser, RawValue};

/// Columns in the order of a file.
const COLUMNS: [Field; 13] = [
    Field::FirstName,
    Field::LastName,
    Field::Email,
    Field::PhoneNumber,
    Field::AccountPurpose,
    Field::IpAddress,
    Field::Program,
    Field::Address,
    Field::City,
    Field::Region,
    Field::PostalCode,
    Field::CountryCode,
    Field::RedirectUrl,
];

type RightRow = [&'static str; 13];

/// People with right values: national and international numbers, codes with leading zeros, accents.
const RIGHT: [RightRow; 12] = [
    row(["Jürgen", "Groß", "+4369912345678", "Lindenstraße 1/2", "Dresden", "Sachsen", "01067", "DE"]),
    row(["Zoë", "O'Brien", "+14155550132", "5-7 Main Street", "Boston", "MA", "02139", "US"]),
    row(["Ada", "Null-Smith", "(775) 555-0154", "HC 31 Box 4500", "Elko", "NV", "89801", "US"]),
    row(["Wanjiru", "Kamau", "+254712345678", "3E5", "Nairobi", "Nairobi", "00100", "KE"]),
    row(["Łukasz", "Wiśniewski", "+48501234567", "ulica 12.10", "Łódź", "Łódzkie", "90-001", "PL"]),
    row(["François", "Lefèvre", "06 12 34 56 78", "14 bis, rue des Lilas", "Orléans", "45", "45000", "FR"]),
    row(["Jan", "de Vries", "+31612345678", "Markt 3", "'s-Hertogenbosch", "NB", "5211 JX", "NL"]),
    row(["Ion", "Popescu", "+40712345678", "Strada 5", "București", "B", "010011", "RO"]),
    row(["Jonas", "Žukas", "+37061234567", "Gedimino pr. 9", "Vilnius", "VL", "01103", "LT"]),
    row(["Chidi", "Okafor", "+2348031234567", "12 Broad St", "Lagos", "LA", "101233", "NG"]),
    row(["Björn", "Åkesson", "+46701234567", "Storgatan 1", "Malmö", "M", "211 20", "SE"]),
    row(["Giulia", "Rossi", "+390669812345", "Via Roma 1", "Roma", "RM", "00184", "IT"]),
];

const fn row([first, last, phone, address, city, region, postal_code, country]: [&'static str; 8]) -> RightRow {
    [
        first,
        last,
        "a.person@example.org",
        phone,
        "personal use",
        "203.0.113.7",
        "custodial",
        address,
        city,
        region,
        postal_code,
        country,
        "https://app.example.com/done",
    ]
}

/// The user of a row, with some cells replaced.
fn user<'v>(right: &RightRow, changed: &'v [(usize, String)]) -> RawUser<'v> {
    let mut user = RawUser::default();
    user.set(Field::IsTermsOfServiceAccepted, RawValue::Bool(true));
    for (column, field) in COLUMNS.into_iter().enumerate() {
        user.set(field, RawValue::Text(Cow::Borrowed(right[column])));
    }
    for (column, value) in changed {
        user.set(COLUMNS[*column], RawValue::Text(Cow::Borrowed(value)));
    }
    user
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn spreadsheet_number(text: &str) -> Option<u64> {
    let number = text.strip_prefix('+').unwrap_or(text);
    number.parse().ok().filter(|_| !number.is_empty())
}

/// Ways in which a value is damaged. `None`: this way doesn't change the value.
fn damaged(way: usize, value: &str) -> Option<String> {
    const ERRORS: [&str; 6] = ["#REF!", "#N/A", "#WERT!", "#¿NOMBRE?", "Err:502", "####"];
    const EMPTY: [&str; 7] = ["NULL", "None", "nan", "N/A", "-", "undefined", "(blank)"];
    let damaged = match way {
        // Leading zeros and the + are lost.
        0 => spreadsheet_number(value)?.to_string(),
        1 => {
            let number = spreadsheet_number(value)?;
            format!("{:E}", number as f64).replace('E', "E+")
        }
        2 => format!("{}.0", spreadsheet_number(value)?),
        3 => format!("=\"{value}\""),
        4 => format!("'{value}"),
        5 => WINDOWS_1252.decode(value.as_bytes()).0.into_owned(),
        6 => MACINTOSH.decode(value.as_bytes()).0.into_owned(),
        7 => format!("={}", value.len()),
        8 => "45363".to_owned(),
        9 => "01/02/2026".to_owned(),
        10 => "2-Jan".to_owned(),
        11 => "TRUE".to_owned(),
        12 => format!("\"{value}\""),
        13 => value.replace('\'', "&#39;"),
        14 => value.repeat(256).chars().take(255).collect(),
        15 => digits(value),
        16..22 => ERRORS[way - 16].to_owned(),
        22..29 => EMPTY[way - 22].to_owned(),
        _ => return None,
    };
    (damaged != value && !damaged.is_empty()).then_some(damaged)
}

const WAYS: usize = 29;

/// The value of a field as it is sent, and whether a person hears of it.
fn sent(user: &RawUser<'_>, field: Field) -> Option<(serde_json::Value, bool)> {
    let (user, warnings) = validate(user).ok()?;
    let mut body: serde_json::Value = serde_json::from_str(&user.canonical_json()).unwrap();
    Some((body[field.name()].take(), warnings.iter().any(|warning| warning.field == field)))
}

#[test]
fn right_values_are_sent_without_a_warning() {
    for right in &RIGHT {
        let given = user(right, &[]);
        let (_, warnings) = validate(&given).unwrap_or_else(|problems| panic!("{right:?}: {problems:?}"));
        assert_eq!(warnings, [], "{right:?}");
    }
}

#[test]
fn no_damaged_value_is_sent_unnoticed() {
    let mut unnoticed = Vec::new();
    let mut count = 0;
    for right in &RIGHT {
        for (column, field) in COLUMNS.into_iter().enumerate() {
            let (right_value, _) = sent(&user(right, &[]), field).unwrap();
            for way in 0..WAYS {
                let Some(value) = damaged(way, right[column]) else { continue };
                // Nothing shows this: the value could be right. A code without its separator is the same code.
                let is_possible =
                    field == Field::PostalCode && (way == 15 || (way == 8 && digits(right[10]).len() == 5));
                if is_possible || (way == 15 && field != Field::PhoneNumber) {
                    continue;
                }
                count += 1;
                let changed = [(column, value.clone())];
                let Some((value_sent, is_noticed)) = sent(&user(right, &changed), field) else { continue };
                if value_sent != right_value && !is_noticed {
                    unnoticed.push(format!("{}: {:?} became {value:?}", field.name(), right[column]));
                }
            }
        }
    }
    assert!(count > 2_000, "{count}");
    assert!(unnoticed.is_empty(), "{count} damaged values, unnoticed:\n{}", unnoticed.join("\n"));
}

#[test]
fn a_row_whose_cells_are_shifted_is_not_sent_unnoticed() {
    for right in &RIGHT {
        for from in 0..COLUMNS.len() - 1 {
            // A cell too many: the values after it are in the next column.
            let shifted: Vec<_> =
                (from..COLUMNS.len() - 1).map(|column| (column + 1, right[column].to_owned())).collect();
            let given = user(right, &shifted);
            let is_noticed = validate(&given).map_or(true, |(_, warnings)| !warnings.is_empty());
            assert!(is_noticed, "{right:?} from {from}");
        }
    }
}
