//! Questions about a file that a person has to answer before anything is sent: on a terminal with a word, else with a
//! flag.

use std::io::{BufRead as _, IsTerminal as _};

use crate::adapters::csv::{CsvScan, EncodingOrigin};
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::domain::columns::{ColumnFinding, FindingWeight};

/// Asks whether the guessed encoding of a file is right.
///
/// # Errors
/// [`AppError::Usage`] where it isn't, or where there is no terminal to ask on.
pub(crate) fn confirm_encoding(scan: &CsvScan, is_answered: bool) -> Result<(), AppError> {
    let Some(question) = encoding_question(scan) else { return Ok(()) };
    confirm(&[question], is_answered, "--encoding NAME, or --yes if the letters are right")
}

/// A guessed encoding with the letters that it yields.
pub(crate) fn encoding_question(scan: &CsvScan) -> Option<String> {
    let encoding = scan.encoding.name();
    (scan.encoding_origin == EncodingOrigin::Guessed).then(|| {
        format!(
            "the file is read as {encoding}, which is a guess: its letters beyond ASCII are {}",
            spaced(&scan.guessed_letters)
        )
    })
}

/// Asks about columns that are probably wrong.
///
/// # Errors
/// [`AppError::Usage`] where the answer is no, or where there is no terminal to ask on.
pub(crate) fn confirm_columns(findings: &[ColumnFinding], is_answered: bool) -> Result<(), AppError> {
    let questions = findings.iter().filter(|finding| finding.weight == FindingWeight::Question);
    let questions: Vec<String> = questions.map(ToString::to_string).collect();
    confirm(&questions, is_answered, "--yes if this is as it should be")
}

fn confirm(questions: &[String], is_answered: bool, flags: &str) -> Result<(), AppError> {
    if questions.is_empty() || is_answered {
        return Ok(());
    }
    let text = questions.join("\n");
    if !std::io::stdin().is_terminal() {
        return Err(AppError::Usage(format!("{text}\nNothing was sent: add {flags}")));
    }
    print(&format!("{text}\nIs this right? Type yes: "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(AppError::Usage(format!("nothing was sent: correct the file, or add {flags}")))
}

fn spaced(letters: &str) -> String {
    let letters: Vec<String> = letters.chars().map(String::from).collect();
    letters.join(" ")
}
