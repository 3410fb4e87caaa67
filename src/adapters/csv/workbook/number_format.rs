//! Number formats that show a whole number as digits and fixed characters: `00000`, `+0`, `(000) 000-0000`,
//! `[<=9999999]###-####;(###) ###-####`. Source: ECMA-376 part 1, 18.8.31. Pure.

/// A number format of this kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberFormat {
    /// Sections with a condition, then the one for all other numbers.
    sections: Vec<FormatSection>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FormatSection {
    condition: Option<(Comparison, u64)>,
    parts: Vec<FormatPart>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormatPart {
    /// `0`: a digit, or 0.
    Digit,
    /// `#` or `?`: a digit, or nothing.
    OptionalDigit,
    Literal(char),
}

impl NumberFormat {
    /// Returns `None` for any other format: decimals, thousands, percent, exponents, fractions, dates, `General`, and
    /// formats that add nothing to the digits.
    pub(super) fn parse(code: &str) -> Option<Self> {
        let mut sections = Vec::new();
        let mut rest = code;
        loop {
            let (section, after) = parse_section(rest)?;
            let is_last = section.condition.is_none();
            sections.push(section);
            // Without conditions, the sections after the first are those of negative numbers, zero and texts.
            match after {
                Some(after) if !is_last => rest = after,
                _ => break,
            }
        }
        let adds = |section: &FormatSection| {
            let count = |kind: fn(&FormatPart) -> bool| section.parts.iter().filter(|part| kind(part)).count();
            count(|part| *part == FormatPart::Digit) > 1 || count(|part| matches!(part, FormatPart::Literal(_))) > 0
        };
        sections.iter().any(adds).then_some(Self { sections })
    }

    /// Returns the text that a sheet shows for a whole number.
    pub(super) fn shown(&self, value: u64) -> Option<String> {
        let section = self.sections.iter().find(|section| section.holds(value))?;
        let digits = if value == 0 { String::new() } else { value.to_string() };
        let places = section.parts.iter().filter(|part| !matches!(part, FormatPart::Literal(_))).count();
        // Digits beyond the places are all before the first place.
        let (mut surplus, digits) = digits.split_at(digits.len().saturating_sub(places));
        let mut missing = places - digits.len();
        let mut digits = digits.chars();
        let mut text = String::new();
        for part in &section.parts {
            match part {
                FormatPart::Literal(literal) => text.push(*literal),
                FormatPart::Digit | FormatPart::OptionalDigit if missing > 0 => {
                    missing -= 1;
                    if *part == FormatPart::Digit {
                        text.push('0');
                    }
                }
                FormatPart::Digit | FormatPart::OptionalDigit => {
                    text.push_str(std::mem::take(&mut surplus));
                    text.extend(digits.next());
                }
            }
        }
        Some(text.trim().to_owned())
    }
}

impl FormatSection {
    fn holds(&self, value: u64) -> bool {
        self.condition.is_none_or(|(comparison, bound)| match comparison {
            Comparison::Less => value < bound,
            Comparison::AtMost => value <= bound,
            Comparison::Greater => value > bound,
            Comparison::AtLeast => value >= bound,
            Comparison::Equal => value == bound,
        })
    }
}

/// Parses the first section. Also returns the text after its `;`.
fn parse_section(code: &str) -> Option<(FormatSection, Option<&str>)> {
    let mut section = FormatSection { condition: None, parts: Vec::new() };
    let mut chars = code.chars();
    let mut has_place = false;
    while let Some(c) = chars.next() {
        match c {
            ';' => return has_place.then_some((section, Some(chars.as_str()))),
            '0' => section.parts.push(FormatPart::Digit),
            '#' | '?' => section.parts.push(FormatPart::OptionalDigit),
            '"' => {
                let (literal, rest) = chars.as_str().split_once('"')?;
                section.parts.extend(literal.chars().map(FormatPart::Literal));
                chars = rest.chars();
            }
            '\\' => section.parts.push(FormatPart::Literal(chars.next()?)),
            // A space as wide as the next character, or that character repeated.
            '_' | '*' => _ = chars.next()?,
            '[' => {
                let (inside, rest) = chars.as_str().split_once(']')?;
                // A colour or a language is neither; a currency changes what is shown.
                if inside.starts_with('$') && !inside.starts_with("$-") {
                    return None;
                }
                section.condition = parse_condition(inside).or(section.condition);
                chars = rest.chars();
            }
            ' ' | '-' | '(' | ')' | '+' | ':' => section.parts.push(FormatPart::Literal(c)),
            _ => return None,
        }
        has_place |= matches!(c, '0' | '#' | '?');
    }
    has_place.then_some((section, None))
}

fn parse_condition(text: &str) -> Option<(Comparison, u64)> {
    let comparisons = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("=", Comparison::Equal),
    ];
    let bound = |(sign, comparison)| Some((comparison, text.strip_prefix(sign)?.parse().ok()?));
    comparisons.into_iter().find_map(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_as_in_the_sheet() {
        for (code, value, shown) in [
            ("00000", 2_139, "02139"),
            ("00000", 12_345_678, "12345678"),
            ("00000", 0, "00000"),
            ("00000\\-0000", 21_390_001, "02139-0001"),
            ("000\\-00\\-0000", 12_345_678, "012-34-5678"),
            ("(000) 000-0000", 4_155_550_132, "(415) 555-0132"),
            ("[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", 5_550_132, "555-0132"),
            ("[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", 4_155_550_132, "(415) 555-0132"),
            ("+0", 14_155_550_132, "+14155550132"),
            ("\"+\"#", 14_155_550_132, "+14155550132"),
            ("+## ### #######", 254_712_345_678, "+25 471 2345678"),
            ("[Red]00000;-00000", 2_139, "02139"),
            ("00000_);[Blue](00000)", 2_139, "02139"),
            ("[$-409]00000;@", 2_139, "02139"),
            ("\"D-\"00000", 1_067, "D-01067"),
        ] {
            let format = NumberFormat::parse(code).unwrap_or_else(|| panic!("{code}"));
            assert_eq!(format.shown(value).as_deref(), Some(shown), "{code}");
        }
    }

    #[test]
    fn formats_that_add_nothing_or_show_something_else_are_left_out() {
        for code in
            ["General", "0", "#", "0.00", "#,##0", "0%", "0.00E+00", "# ?/?", "yyyy-mm-dd", "@", "", "[$€-407]0"]
        {
            assert_eq!(NumberFormat::parse(code), None, "{code}");
        }
    }
}
