//! Countries in words: `Deutschland`, `Türkiye`, `USA`, `Korea (the Republic of)`.

use std::collections::HashMap;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::domain::country::entries;

const NAMES: &str = include_str!("names.txt");

/// Names in common use that CLDR doesn't have, folded. `EL` is the European Union's code of Greece.
const ALIASES: [(&str, &str); 22] = [
    ("greatbritain", "GB"),
    ("britain", "GB"),
    ("england", "GB"),
    ("scotland", "GB"),
    ("wales", "GB"),
    ("northernireland", "GB"),
    ("unitedkingdomofgreatbritain", "GB"),
    ("grossbritannien", "GB"),
    ("großbritannien", "GB"),
    ("unitedstatesofamerica", "US"),
    ("vereinigtestaatenvonamerika", "US"),
    ("etatsunisdamerique", "US"),
    ("estadosunidosdeamerica", "US"),
    ("holland", "NL"),
    ("burma", "MM"),
    ("macedonia", "MK"),
    ("republicofireland", "IE"),
    ("uae", "AE"),
    ("ksa", "SA"),
    ("drcongo", "CD"),
    ("uk", "GB"),
    ("el", "GR"),
];

/// Names that are in use for two countries, whatever a table says.
const OF_TWO_COUNTRIES: [&str; 4] = ["congo", "kongo", "korea", "corea"];

static CODES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let of_cldr = entries(NAMES).flat_map(|(code, names)| names.split('|').map(move |name| (name, code)));
    of_cldr.chain(ALIASES).filter(|(name, _)| !OF_TWO_COUNTRIES.contains(name)).collect()
});

/// English names of ISO 3166-1, which differ from those of CLDR, by their words in alphabetical order: lists write
/// `Korea (the Republic of)`, `Korea, Republic of` or `Republic of Korea`.
static ISO_CODES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let countries = rust_iso3166::ALL.iter().map(|country| (sorted_words(country.name), country.alpha2));
    countries.filter(|(name, _)| !OF_TWO_COUNTRIES.contains(&name.as_str())).collect()
});

/// Returns the two-letter code of a country in words, of an alpha-3 code or of a common alias. `None` where the words
/// fit no country of ISO 3166-1, or two of them.
pub(in crate::domain) fn code_of_words(text: &str) -> Option<&'static str> {
    // Names have 60 letters at most.
    if text.len() > 200 {
        return None;
    }
    if text.len() == 3
        && let Some(country) = rust_iso3166::from_alpha3(&text.to_ascii_uppercase())
    {
        return Some(country.alpha2);
    }
    let folded = fold(text);
    let find = |name: &str| CODES.get(name).copied();
    let found = find(&folded).or_else(|| ISO_CODES.get(&sorted_words(text)).copied()).or_else(|| {
        let has_article = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("the "));
        if has_article { find(&folded["the".len()..]) } else { None }
    });
    found.filter(|code| rust_iso3166::from_alpha2(code).is_some())
}

/// Returns the words of an English name in alphabetical order, without articles.
fn sorted_words(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).map(fold);
    let mut words: Vec<String> = words.filter(|word| !matches!(word.as_str(), "" | "the" | "of")).collect();
    words.sort_unstable();
    words.concat()
}

/// Returns a name without case, accents, white space and punctuation; `&` is read as `and`.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.nfd().filter(|c| !is_combining_mark(*c)) {
        match c {
            '&' => folded.push_str("and"),
            c => folded.extend(c.to_lowercase().filter(|c| c.is_alphanumeric() && !is_combining_mark(*c))),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_in_words_get_their_code() {
        for (given, code) in [
            ("Germany", "DE"),
            ("Deutschland", "DE"),
            ("ALLEMAGNE", "DE"),
            ("UK", "GB"),
            ("U.K.", "GB"),
            ("usa", "US"),
            ("U.S.A.", "US"),
            ("United States of America", "US"),
            ("The Netherlands", "NL"),
            ("Türkiye", "TR"),
            ("Turkiye", "TR"),
            ("Turkey", "TR"),
            ("Côte d’Ivoire", "CI"),
            ("Cote d'Ivoire", "CI"),
            ("Ivory Coast", "CI"),
            ("Korea (the Republic of)", "KR"),
            ("South Korea", "KR"),
            ("Korea, Republic of", "KR"),
            ("Republic of Korea", "KR"),
            ("Democratic Republic of the Congo", "CD"),
            ("Iran (Islamic Republic of)", "IR"),
            ("Russian Federation", "RU"),
            ("Viet Nam", "VN"),
            ("Congo (DRC)", "CD"),
            ("Saint Lucia", "LC"),
            ("St. Lucia", "LC"),
            ("São Tomé & Príncipe", "ST"),
            ("Österreich", "AT"),
            ("Suomi", "FI"),
            ("日本", "JP"),
            ("Россия", "RU"),
            ("DEU", "DE"),
            ("EL", "GR"),
        ] {
            assert_eq!(code_of_words(given), Some(code), "{given}");
        }
    }

    #[test]
    fn words_that_fit_no_country_or_two_get_no_code() {
        for given in ["", "Congo", "Korea", "America", "Narnia", "Kosovo", "XK", "EU", "ZZ", "276", "+1", "-", "the "] {
            assert_eq!(code_of_words(given), None, "{given}");
        }
    }

    #[test]
    fn every_country_has_an_english_name_in_the_table_and_names_are_folded() {
        for country in rust_iso3166::ALL {
            if !["CG"].contains(&country.alpha2) {
                assert_eq!(code_of_words(country.name), Some(country.alpha2), "{}", country.name);
            }
        }
        for (name, code) in CODES.iter() {
            assert_eq!(fold(name), *name, "{code}");
        }
        assert_eq!(entries(NAMES).count(), 249);
    }
}
