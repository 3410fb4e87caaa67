use std::borrow::Cow;

use super::*;
use crate::domain::{RawUser, RawValue, validate};

/// Facts about a person who has nothing in common with others, with some values replaced.
fn facts(number: u64, changes: &[(Field, String)]) -> RowFacts {
    let mut user = RawUser::default();
    user.set(Field::IsTermsOfServiceAccepted, RawValue::Bool(true));
    // Not by one, so that it is no series.
    let scattered = number.wrapping_mul(7_919) % 9_000_000;
    let values = [
        (Field::FirstName, "Ada".to_owned()),
        (Field::LastName, format!("Name{number}")),
        (Field::Email, format!("person{number}@mail.com")),
        (Field::PhoneNumber, format!("+49170{:07}", 1_000_000 + scattered)),
        (Field::AccountPurpose, "personal use".to_owned()),
        (Field::IpAddress, std::net::Ipv4Addr::from(0x2000_0000 + (scattered as u32) * 3).to_string()),
        (Field::Program, "custodial".to_owned()),
        (Field::Address, format!("Street {scattered}")),
        (Field::City, "Berlin".to_owned()),
        (Field::Region, "BE".to_owned()),
        (Field::PostalCode, "10115".to_owned()),
        (Field::CountryCode, "DE".to_owned()),
    ];
    for (field, value) in values.into_iter().chain(changes.iter().cloned()) {
        user.set(field, RawValue::Text(Cow::Owned(value)));
    }
    let (valid, _) = validate(&user).unwrap();
    RowFacts::of(&valid, &user, None)
}

fn codes(rows: u64, changes: impl Fn(u64) -> Vec<(Field, String)>) -> Vec<(&'static str, FindingWeight)> {
    let mut survey = ColumnSurvey::default();
    for number in 0..rows {
        survey.add(&facts(number, &changes(number)), number + 2);
    }
    survey.findings().into_iter().map(|finding| (finding.code, finding.weight)).collect()
}

const COUNTRIES: (&str, FindingWeight) = ("COUNTRIES", FindingWeight::Note);

#[test]
fn a_list_of_different_people_raises_no_question() {
    assert_eq!(codes(500, |_| vec![]), [COUNTRIES]);
}

#[test]
fn a_value_that_many_rows_share_is_a_question() {
    use FindingWeight::{Note, Question};
    let shares = |field, value: &'static str, every| {
        codes(200, move |number| if number % every == 0 { vec![(field, value.to_owned())] } else { vec![] })
    };
    assert_eq!(shares(Field::IpAddress, "8.8.8.8", 2), [("SHARED_VALUE", Question), COUNTRIES]);
    assert_eq!(shares(Field::IpAddress, "8.8.8.8", 10), [("SHARED_VALUE", Note), COUNTRIES]);
    assert_eq!(shares(Field::IpAddress, "8.8.8.8", 30), [COUNTRIES]);
    assert_eq!(shares(Field::PhoneNumber, "+491701111111", 10), [("SHARED_VALUE", Question), COUNTRIES]);
    assert_eq!(shares(Field::Address, "Friedrichstraße", 3), [("SHARED_VALUE", Question), COUNTRIES]);
}

#[test]
fn a_series_that_was_filled_down_is_a_question() {
    let series = codes(12, |number| vec![(Field::PhoneNumber, format!("+491701{:06}", 100_000 + number))]);
    assert_eq!(series, [("FILLED_DOWN", FindingWeight::Question), COUNTRIES]);
    let short = codes(6, |number| vec![(Field::Address, format!("{} Main Street", number + 1))]);
    assert_eq!(short, [("FILLED_DOWN", FindingWeight::Note), COUNTRIES]);
}

#[test]
fn near_duplicates_are_found() {
    let name_and_phone = |number: u64| {
        let person = number / 2;
        vec![
            (Field::LastName, format!("Name{person}")),
            (Field::PhoneNumber, format!("+49170{}", 2_000_000 + person * 31)),
        ]
    };
    assert_eq!(codes(60, name_and_phone), [("SAME_PERSON", FindingWeight::Question), COUNTRIES]);
    let mailbox = |number: u64| {
        let email = if number == 1 { "j.doe+1@gmail.com".to_owned() } else { format!("jdoe{}@gmail.com", number + 7) };
        vec![(Field::Email, if number == 0 { "jdoe@gmail.com".to_owned() } else { email })]
    };
    assert_eq!(codes(40, mailbox), [("SAME_MAILBOX", FindingWeight::Note), COUNTRIES]);
}

#[test]
fn example_values_and_numbers_without_plus_are_shown() {
    let vendor = codes(3, |number| {
        vec![(Field::PhoneNumber, "+14155555555".to_owned()), (Field::LastName, format!("N{number}x"))]
    });
    assert_eq!(vendor[0], ("VENDOR_EXAMPLE", FindingWeight::Question));
    let reserved = codes(3, |_| vec![(Field::IpAddress, "203.0.113.7".to_owned())]);
    assert_eq!(reserved, [("RESERVED_EXAMPLE", FindingWeight::Note), COUNTRIES]);
    let national = codes(3, |number| vec![(Field::PhoneNumber, format!("0170 {}", 2_000_000 + number * 31))]);
    assert_eq!(national, [("WITHOUT_PLUS", FindingWeight::Note), COUNTRIES]);
}

#[test]
fn a_finding_names_the_countries_by_their_share() {
    let mut survey = ColumnSurvey::default();
    for number in 0..10 {
        let country = if number < 7 { "DE" } else { "AT" };
        survey.add(&facts(number, &[(Field::CountryCode, country.to_owned())]), number + 2);
    }
    assert_eq!(survey.findings().last().unwrap().text, "countries: DE 70 %, AT 30 %");
}
