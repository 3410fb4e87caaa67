//! Questions about a file: nothing is sent until a flag answers them.

use crate::support::{Partner, TestDir, customers};

/// Runs a file against a partner and returns how many users exist after it.
fn users_after(file: &str, content: impl AsRef<[u8]>, flags: &str, exit: i32, said: &[&str]) -> u64 {
    let partner = Partner::start(Default::default());
    let dir = TestDir::with(file, content);
    let run = dir.program(&format!("run {file} --rate 0 --api-url {} {flags}", partner.url()));
    run.expect_exit(exit).assert_output(said);
    partner.stats().model.users
}

/// A file in MacRoman: `Jürgen Groß` and `Köln`.
fn mac_roman() -> Vec<u8> {
    let file = customers(0..2).replace("Ann", "J@rgen").replace("Lee", "Gro~").replace("Springfield", "K^ln");
    let file = file.replace("@example", "%example");
    let byte = |byte| match byte {
        b'@' => 0x9F,
        b'~' => 0xA7,
        b'^' => 0x9A,
        b'%' => b'@',
        other => other,
    };
    file.bytes().map(byte).collect()
}

#[test]
fn a_guessed_encoding_needs_a_yes_before_anything_is_sent() {
    let question = ["macintosh, which is a guess", "ß ö ü", "--encoding"];
    assert_eq!(users_after("people.csv", mac_roman(), "", 2, &question), 0);
    assert_eq!(users_after("people.csv", mac_roman(), "--yes", 0, &[]), 2);
    assert_eq!(users_after("people.csv", mac_roman(), "--encoding macintosh", 0, &[]), 2);
    let dir = TestDir::with("people.csv", mac_roman());
    dir.program("import people.csv --queue local:q.db").expect_exit(2).assert_output(&question);
    dir.program("import people.csv --queue local:q.db --yes").expect_exit(0).assert_output(&["put on q.db: 2"]);
}

#[test]
fn a_column_that_is_probably_wrong_needs_a_yes() {
    let mut file = customers(0..30);
    for n in 0..30 {
        file = file.replace(&format!(",203.0.113.{},", n * 3 % 250 + 1), ",8.8.8.8,");
    }
    assert_eq!(users_after("people.csv", &file, "", 2, &["ipAddress: one value is in 30 of 30 rows", "--yes"]), 0);
    assert_eq!(users_after("people.csv", &file, "--yes", 0, &["note: ipAddress"]), 30);
    let dir = TestDir::with("people.csv", &file);
    dir.program("check people.csv").expect_exit(0).assert_output(&["ipAddress: one value", "(run asks)"]);

    // A run whose question was not answered reads the file again, and asks again.
    let partner = Partner::start(Default::default());
    let run = |flags: &str| dir.program(&format!("run people.csv --rate 0 --api-url {}{flags}", partner.url()));
    run("").expect_exit(2);
    run("").expect_exit(2);
    run(" --yes").expect_exit(0);
    assert_eq!(partner.stats().model.users, 30);
}

#[test]
fn numbers_that_lost_their_plus_make_no_stranger() {
    let file = customers(0..3).replace(",US", ",DE").replace("62701", "10115");
    let file = file.replace("+1415555000", "44791112345").replace(",447911123450,", ",447911123457,");
    let ambiguous = ["3 x phoneNumber AMBIGUOUS_PHONE_NUMBER"];
    assert_eq!(users_after("people.csv", &file, "", 3, &ambiguous), 0);
    assert_eq!(users_after("people.csv", &file, "--phone-without-plus international", 0, &[]), 3);
    assert_eq!(users_after("people.csv", &file, "--phone-without-plus national", 0, &[]), 3);
    let dir = TestDir::with("people.csv", &file);
    dir.program("check people.csv").expect_exit(3).assert_output(&ambiguous);
    let read = dir.program("check people.csv --phone-without-plus international").expect_exit(0);
    read.assert_output(&["3 x phoneNumber PLUS_ADDED (converted)"]);
}

#[test]
fn text_that_was_encoded_twice_is_mended_only_with_a_flag() {
    let file = customers(0..2).replace("Lee", "GroÃŸ");
    assert_eq!(users_after("people.csv", &file, "", 3, &["2 x lastName DOUBLE_ENCODING"]), 0);
    assert_eq!(users_after("people.csv", &file, "--mend-double-encoding", 0, &[]), 2);
}

#[test]
fn quotation_marks_are_not_guessed() {
    let file = customers(0..3).replace("1 Main Street", "\"1 \\\"A\\\" Street\"");
    assert_eq!(users_after("people.csv", &file, "", 3, &["1 x UNCLEAR_QUOTING"]), 2);
}
