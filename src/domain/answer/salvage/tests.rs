use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ID: &str = "acme-user-1";
const LINK: &str = "https://v.example/1";

/// What is read: the id and the link, or the code of the reason why the link is missing.
fn read(body: impl AsRef<[u8]>) -> Option<(Option<String>, Result<String, &'static str>)> {
    let SalvagedCreation { service_id, link } = creation(body.as_ref())?;
    let link = link.map(VerificationUrl::into_string).map_err(LinkLoss::code);
    Some((service_id.map(ServiceId::into_string), link))
}

fn all() -> Option<(Option<String>, Result<String, &'static str>)> {
    Some((Some(ID.to_owned()), Ok(LINK.to_owned())))
}

fn only_id(why: &'static str) -> Option<(Option<String>, Result<String, &'static str>)> {
    Some((Some(ID.to_owned()), Err(why)))
}

fn only_link() -> Option<(Option<String>, Result<String, &'static str>)> {
    Some((None, Ok(LINK.to_owned())))
}

/// A success whose `data` has these members.
fn data(members: &str) -> String {
    format!(r#"{{"status":"success","message":"User created successfully","data":{{{members}}}}}"#)
}

const MEMBERS: &str = r#""serviceId":"acme-user-1","verificationUrl":"https://v.example/1""#;

#[test]
fn everything_is_read_of_an_answer_in_another_shape() {
    let whole = data(MEMBERS);
    for body in [
        whole.clone(),
        format!("\u{feff}{whole}"),
        format!(" \r\n{whole}\n\n"),
        format!("{whole}\n<!-- 12 ms -->"),
        format!("{whole}{whole}"),
        data(&format!("{MEMBERS},")),
        data(&format!("{MEMBERS},{MEMBERS}")),
        data(&format!(r#"{MEMBERS},"note":"a{}b""#, '\u{1}')),
        data(&format!(r#"{MEMBERS},"broken":"\ud800","worse":"\x""#)),
        data(r#""service_id":"acme-user-1","verification_url":"https://v.example/1""#),
        data(r#""serviceId":"acme-user-1","verificationLink":"https://v.example/1""#),
        data(r#""serviceId":"acme-user-1","verificationUrl":null,"verificationLink":"https://v.example/1""#),
        data(r#""serviceId":"acme-user-1","verificationUrl":{"url":"https://v.example/1","expires":60}"#),
        data(r#""serviceId":"acme-user-1","verificationUrl":{"expires":{"url":"x"},"href":"https://v.example/1"}"#),
        data(r#""serviceId":"acme\u002duser\u002d1","verificationUrl":"https:\/\/v.example\/1""#),
        data(r#""serviceId":"acme-user-1","verificationUrl":" https://v.example/1 ""#),
        data(&format!(r#""data":{{{MEMBERS}}}"#)),
        data(&format!(r#""user":{{{MEMBERS}}}"#)),
        data(&format!(r#""serviceId":"acme-user-1","result":{{{MEMBERS}}}"#)),
        format!("{{{MEMBERS}}}"),
        format!(r#"{{"status":201,"user":{{{MEMBERS}}}}}"#),
        format!(r#"{{"serviceId":"acme-user-1","data":{{{MEMBERS}}}}}"#),
    ] {
        assert_eq!(read(&body), all(), "{body}");
    }
    let numbered = data(r#""serviceId":4711,"verificationUrl":"https://v.example/1""#);
    assert_eq!(read(numbered), Some((Some("4711".to_owned()), Ok(LINK.to_owned()))));
}

#[test]
fn a_missing_link_has_its_reason() {
    for (members, why) in [
        (r#""serviceId":"acme-user-1""#, "not_sent"),
        (r#""serviceId":"acme-user-1","verificationUrl":null"#, "not_sent"),
        (r#""serviceId":"acme-user-1","verificationUrl":"""#, "not_sent"),
        (r#""serviceId":"acme-user-1","link":"https://v.example/1""#, "not_sent"),
        (r#""serviceId":"acme-user-1","verificationUrl":"javascript:alert(1)""#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":"http://169.254.169.254/""#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":"https://v.example/\u0000""#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":"\ud800""#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":7"#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":["https://v.example/1"]"#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":{"id":7}"#, "unusable"),
        (r#""serviceId":"acme-user-1","verificationUrl":{"url":"x","href":"https://v.example/1"}"#, "unusable"),
        (
            r#""serviceId":"acme-user-1","verificationUrl":"https://v.example/1","verificationUrl":"https://v.example/2""#,
            "unusable",
        ),
    ] {
        assert_eq!(read(data(members)), only_id(why), "{members}");
    }
}

#[test]
fn a_link_is_read_without_a_usable_id() {
    let long = format!(r#""serviceId":"{}""#, "a".repeat(300_000));
    for id in [
        r#""x":1"#,
        r#""serviceId":null"#,
        r#""serviceId":"""#,
        r#""serviceId":"a\u0000""#,
        r#""serviceId":1.5"#,
        r#""serviceId":-1"#,
        r#""serviceId":true"#,
        r#""serviceId":{"id":"acme-user-1"}"#,
        r#""serviceId":["acme-user-1"]"#,
        r#""serviceId":"acme-user-1","serviceId":"acme-user-2""#,
        r#""serviceId":"acme-user-1","serviceId":7"#,
        &long,
    ] {
        let body = data(&format!(r#"{id},"verificationUrl":"https://v.example/1""#));
        assert_eq!(read(&body), only_link(), "{}", &body[..body.len().min(200)]);
    }
}

#[test]
fn json_whose_end_is_missing_is_read_up_to_the_last_closing_quote() {
    let whole = data(MEMBERS);
    let id_end = whole.find(r#"-1","veri"#).unwrap() + r#"-1""#.len();
    let link_end = whole.find(r#"/1"}}"#).unwrap() + r#"/1""#.len();
    for end in 0..whole.len() {
        let expected = match end {
            _ if end < id_end => None,
            _ if end < link_end => only_id("lost_answer"),
            _ => all(),
        };
        assert_eq!(read(&whole[..end]), expected, "{}", &whole[..end]);
    }
    // A number may continue.
    assert_eq!(read(r#"{"data":{"serviceId":47"#), None);
    assert_eq!(read(r#"{"data":{"serviceId":47,"#), Some((Some("47".to_owned()), Err("lost_answer"))));
    // What follows isn't JSON.
    let broken = r#"{"data":{"serviceId":"acme-user-1" "verificationUrl";"https://v.example/1"}}"#;
    assert_eq!(read(broken), only_id("lost_answer"));
    let cut_object = data(r#""serviceId":"acme-user-1","verificationUrl":{"url":"https://v.example/1"}"#);
    assert_eq!(read(&cut_object[..cut_object.len() - 3]), all());
    assert_eq!(read(&cut_object[..cut_object.len() - 5]), only_id("lost_answer"));
}

#[test]
fn nothing_is_read_from_a_place_that_may_be_another_persons() {
    for body in [
        format!("[{{{MEMBERS}}}]"),
        format!(r#"{{"data":[{{{MEMBERS}}}]}}"#),
        format!(r#"{{"data":{{"users":[{{{MEMBERS}}}]}}}}"#),
        format!(r#"{{"users":[{{{MEMBERS}}}],"data":{{}}}}"#),
        format!(r#"{{"data":{{"referrer":{{{MEMBERS}}}}}}}"#),
        format!(r#"{{"data":{{"user":{{"parent":{{{MEMBERS}}}}}}}}}"#),
        format!(r#"{{"request":{{{MEMBERS}}}}}"#),
        format!(r#"{{"message":"{}"}}"#, MEMBERS.replace('"', "\\\"")),
        format!("<html>{{{MEMBERS}}}</html>"),
        MEMBERS.to_owned(),
        // An answer about an error, for example with the user that exists.
        data(MEMBERS).replace("success\",", "error\","),
        data(MEMBERS).replace("success\",", "Failed\","),
    ] {
        assert_eq!(read(&body), None, "{body}");
    }
}

#[test]
fn places_that_contradict_each_other_are_not_mixed() {
    let other = r#""serviceId":"acme-user-2","verificationUrl":"https://v.example/2""#;
    // The documented place wins.
    assert_eq!(read(format!(r#"{{{other},"data":{{{MEMBERS}}}}}"#)), all());
    // The link beside another id is another user's.
    let id_only = format!(r#"{{{other},"data":{{"serviceId":"acme-user-1"}}}}"#);
    assert_eq!(read(id_only), only_id("not_sent"));
    assert_eq!(read(format!(r#"{{{other},"user":{{{MEMBERS}}}}}"#)), None);
    // The same link with two ids: one of them may be wrong.
    let same_link =
        data(r#""serviceId":"acme-user-1","serviceId":"acme-user-2","verificationUrl":"https://v.example/1""#);
    assert_eq!(read(same_link), only_link());
    assert_eq!(read(format!("{}{}", data(MEMBERS), data(other))), None);
    let others_link = r#"{"verificationUrl":"https://v.example/1","user":{"verificationUrl":"https://v.example/2"}}"#;
    assert_eq!(read(others_link), None);
}

#[test]
fn a_deep_answer_needs_no_deep_stack() {
    let deep = 200_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"{"data":"#, "}"), (r#"{"user":"#, "}")] {
        let nested = format!("{}7{}", open.repeat(deep), close.repeat(deep));
        let body = data(&format!(r#""x":{nested},{MEMBERS}"#));
        assert_eq!(read(&body), all(), "{open}");
        assert_eq!(read(&body[..body.len() / 2]), None, "{open}");
        creation(nested.as_bytes());
    }
}

#[test]
fn the_code_of_a_refusal_is_read_without_its_end() {
    let refusal = r#"{"status":"error","message":"DUP_USER","data":{"error":"exists"}}"#;
    let code_end = refusal.find(",\"data\"").unwrap();
    for end in 0..refusal.len() {
        let expected = (end >= code_end).then(|| "DUP_USER".to_owned());
        assert_eq!(refusal_code(&refusal.as_bytes()[..end]), expected);
    }
    assert_eq!(refusal_code(br#"{"message":"A","message":"B"}"#), None);
    assert_eq!(refusal_code(br#"{"message":["A"]}"#), None);
    assert_eq!(refusal_code(br#"{"data":{"message":"A"}}"#), None);
}

/// Every string and number of a body, unescaped, wherever it is. Reads what isn't JSON too.
fn texts(body: &[u8]) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for start in 0..body.len() {
        let tail = &body[start..];
        let end = tail.iter().skip(1).enumerate().find(|(at, byte)| **byte == b'"' && !is_escaped(&tail[1..], *at));
        if let (b'"', Some((end, _))) = (tail[0], end) {
            texts.extend(unescaped(&tail[..end + 2]));
        }
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        texts.insert(String::from_utf8_lossy(&tail[..digits]).into_owned());
    }
    texts
}

/// Whether an odd number of backslashes is in front.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Pieces of answers, whole and broken.
fn piece() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("serviceId"),
        Just("verificationUrl"),
        Just("verificationLink"),
        Just("verification_url"),
        Just("data"),
        Just("user"),
        Just("url"),
        Just("status"),
        Just("message"),
        Just("users"),
    ];
    let text = prop_oneof![
        Just("acme-user-1".to_owned()),
        Just("acme-user-2".to_owned()),
        Just("https://v.example/1".to_owned()),
        Just("https:\\/\\/v.example\\/2".to_owned()),
        Just("\\u0061b\\n".to_owned()),
        Just("\\ud83d\\ude00 \\ud800".to_owned()),
        "[a-z:/\\\\\" \u{1}é]{0,8}",
    ];
    prop_oneof![
        5 => name.prop_map(|name| format!("\"{name}\":")),
        5 => text.prop_map(|text| format!("\"{text}\"")),
        8 => prop::sample::select(vec!["{", "}", ",", "[", "]", ":", " ", "\"", "\\"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["null", "true", "47", "-1", "1e9", "\u{feff}"]).prop_map(str::to_owned),
    ]
}

/// Answers to creations, in which bytes are changed, left out and added.
fn damaged_answer() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(data(MEMBERS)),
        Just(format!("{{{MEMBERS}}}")),
        Just(data(&format!(r#""user":{{{MEMBERS}}},{MEMBERS}"#))),
        Just(data(r#""serviceId":4711,"verificationUrl":{"url":"https:\/\/v.example\/1"}"#)),
    ];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6);
    (whole, damage).prop_map(|(whole, damage)| {
        let mut body = whole.into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(body.len().max(1));
            match kind {
                0 if at < body.len() => body[at] = byte,
                1 => body.truncate(at),
                _ => body.insert(at.min(body.len()), byte),
            }
        }
        body
    })
}

/// A text as JSON: each character as it is, with a backslash, or as `\u` and its code.
fn written(text: &str, style: &[u8]) -> String {
    let mut json = "\"".to_owned();
    for (char, style) in text.chars().zip(style.iter().cycle()) {
        match (char, style % 3) {
            ('"' | '\\', 0 | 1) | ('/', 1) => json.extend(['\\', char]),
            (char, 0 | 1) => json.push(char),
            (char, _) => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| json += &format!("\\u{unit:04x}")),
        }
    }
    json + "\""
}

/// An answer of the API in one of the shapes that are read, with its id and link.
fn right_answer() -> impl Strategy<Value = (String, String, String)> {
    let id = prop_oneof!["[a-z]{1,8}-user-[a-zA-Z0-9]{1,15}", "[a-z\"\\\\/é😀 ]{1,12}", "[1-9][0-9]{0,9}"];
    let path = "[a-z0-9/?=&\"é😀]{0,20}";
    let style = prop::collection::vec(any::<u8>(), 1..8);
    (id, path, style, any::<bool>(), any::<bool>(), 0..6_u8, prop::sample::select(vec!["", " ", "\r\n\t"])).prop_map(
        |(id, path, style, is_number, is_link_first, shape, space)| {
            let url = format!("https://v.example/{path}");
            let id_json = if is_number && id.parse::<u64>().is_ok() { id.clone() } else { written(&id, &style) };
            let id_member = format!("\"serviceId\"{space}:{space}{id_json}");
            let url_json = written(&url, &style);
            let url_json = if shape == 5 { format!("{{\"url\":{url_json}}}") } else { url_json };
            let url_member = format!("\"verificationUrl\":{space}{url_json}");
            let mut members = [id_member, url_member];
            if is_link_first {
                members.reverse();
            }
            let members = members.join(&format!("{space},{space}"));
            // A text with what looks like the members.
            let decoy = written(&format!("x\",{MEMBERS},\"y"), &style);
            let body = match shape {
                0 => format!("{{{members}}}"),
                1 => format!(r#"{{"status":"success","data":{{"user":{{{members}}}}}}}"#),
                2 => format!(r#"{{"data":{{"note":{decoy},{members},{members}}},"message":{decoy}}}"#),
                3 => format!(r#"{{"users":[{{{MEMBERS}}}],"data":{{"parent":{{{MEMBERS}}},{members}}}}}"#),
                _ => format!(r#"{{{space}"message":{decoy},"data"{space}:{{{members},"kyc":null}}{space}}}"#),
            };
            (body, id, url)
        },
    )
}

fn invents_nothing(body: &[u8]) -> Result<(), TestCaseError> {
    let Some(SalvagedCreation { service_id, link }) = creation(body) else { return Ok(()) };
    let texts = texts(body);
    prop_assert!(service_id.is_some() || link.is_ok());
    if let Some(id) = service_id {
        prop_assert!(texts.contains(id.as_str()), "{:?} is not in {}", id, String::from_utf8_lossy(body));
    }
    if let Ok(link) = link {
        let is_there = texts.iter().any(|text| text.trim_matches(' ') == link.as_str());
        prop_assert!(is_there, "{} is not in {}", link.as_str(), String::from_utf8_lossy(body));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn no_bytes_make_it_panic_or_invent(body in prop::collection::vec(any::<u8>(), 0..200)) {
        invents_nothing(&body)?;
        let object = [b"{\"data\":{", &body[..]].concat();
        invents_nothing(&object)?;
        refusal_code(&object);
    }

    #[test]
    fn no_pieces_of_answers_make_it_panic_or_invent(pieces in prop::collection::vec(piece(), 0..40)) {
        let body = format!("{{{}", pieces.concat());
        invents_nothing(body.as_bytes())?;
        refusal_code(body.as_bytes());
    }

    #[test]
    fn no_damaged_answer_makes_it_panic_or_invent(body in damaged_answer()) {
        invents_nothing(&body)?;
    }

    #[test]
    fn what_the_strict_reader_reads_is_read_the_same(id in "[a-z0-9 \"\\\\é]{1,20}", path in "[a-z0-9/\"\\\\é]{0,20}") {
        let url = format!("https://v.example/{path}");
        let body = serde_json::json!({"status": "success", "data": {"serviceId": id, "verificationUrl": url}});
        let link = VerificationUrl::parse(&url).map(VerificationUrl::into_string).ok_or("unusable");
        prop_assert_eq!(read(body.to_string()), Some((Some(id), link)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_beginning_of_a_right_answer_never_gives_another_id_or_link((body, id, url) in right_answer()) {
        let link = VerificationUrl::parse(&url).map(VerificationUrl::into_string);
        prop_assert_eq!(read(&body), Some((Some(id.clone()), link.clone().ok_or("unusable"))), "{}", &body);
        for end in 0..body.len() {
            let Some((read_id, read_link)) = read(&body.as_bytes()[..end]) else { continue };
            prop_assert!(read_id.is_none_or(|read| read == id), "{}", &body);
            prop_assert!(read_link.is_err() || read_link.ok() == link, "{}", &body);
        }
    }

    #[test]
    fn a_text_ends_at_its_closing_quote(text in "[a-z\"\\\\/é😀{},:]{0,20}", style in prop::collection::vec(any::<u8>(), 1..8), after in "[a-z\"\\\\{},:]{0,20}") {
        let json = written(&text, &style);
        let whole = format!("{json}{after}");
        let mut reader = LenientReader { rest: whole.as_bytes() };
        prop_assert_eq!(reader.string().unwrap(), Some(text));
        prop_assert_eq!(reader.rest, after.as_bytes());
        for end in 0..json.len() {
            prop_assert!(LenientReader { rest: &json.as_bytes()[..end] }.string().is_err(), "{}", &json[..end]);
        }
    }
}
