//! `check FILE`: validates a file and prints the plan. The network isn't used and no file is written.
//!
//! The rows take the same path as those of a run, onto a queue in a temporary file that is deleted at once. So repeats
//! and conflicts are reported exactly as a run would treat them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{self, CsvRow, CsvScan, ReadOptions};
use crate::adapters::local_queue::import::{BatchKind, Importer};
use crate::app::commands::CommandOutcome;
use crate::app::console::grouped;
use crate::app::console::progress::{ConsoleProgress, READ_STYLE};
use crate::app::console::stdout::{print, print_file};
use crate::app::error::AppError;
use crate::app::input::row_parser::{self, RowParser, ValidRow, batch_of};
use crate::app::input::rows::{self, ImportCounts, RowVisitor, RowsJob};
use crate::app::input::standard_input::InputFile;
use crate::app::input::{file_notes, read_options, reading_options, scratch_queue};
use crate::app::results::ProblemCounts;
use crate::app::service::logging::start_logging;
use crate::app::service::signals;
use crate::cli::CheckArgs;
use crate::config::Settings;
use crate::domain::columns::{ColumnSurvey, FindingWeight};
use crate::domain::job::InvalidJob;
use crate::domain::{Lane, Problem, ReadingOptions, Warning, WarningKind};

/// Most lines about single rows without `--all`. Each kind of line gets an equal share of them.
const LINES_MAX: usize = 50;

/// Runs the command.
///
/// # Errors
/// [`AppError`] where the file can't be read.
pub(crate) async fn check(arguments: &CheckArgs, settings: Settings) -> Result<CommandOutcome, AppError> {
    let progress = ConsoleProgress::new(settings.log.format);
    start_logging(&settings, "warn", std::io::stderr)?;
    let options = CheckOptions {
        read: read_options(&arguments.csv),
        reading: reading_options(&arguments.csv),
        message_bytes_max: settings.queue.message_bytes_max,
        all: arguments.all,
    };
    let argument = arguments.file.clone();
    let stop = signals::stop_on_signal(|| {})?;
    let thread = tokio::task::spawn_blocking(move || {
        let file = InputFile::open(&argument, None)?;
        let scan = csv::scan(&file.path, &options.read)?;
        let report = read(&file, &scan, &options, &progress, &stop)?;
        Ok::<_, AppError>(report.map(|report| report.text(&file.name, &scan, &settings)))
    });
    let report = thread.await.map_err(|error| AppError::panicked("reading", &error))??;
    match report {
        None => Err(AppError::CannotContinue("stopped before the end of the file".to_owned())),
        Some((text, outcome)) => {
            text.print();
            Ok(outcome)
        }
    }
}

struct CheckOptions {
    read: ReadOptions,
    reading: ReadingOptions,
    message_bytes_max: usize,
    all: bool,
}

/// `None`: stopped before the end of the file.
fn read(
    file: &InputFile,
    scan: &CsvScan,
    options: &CheckOptions,
    progress: &ConsoleProgress,
    stop: &CancellationToken,
) -> Result<Option<CheckReport>, AppError> {
    let batch = batch_of(&file.name, scan);
    let mut importer = scratch_queue::importer("check", &batch, BatchKind::Run)?;
    let job = RowsJob {
        file: &file.name,
        read_from: &file.path,
        scan,
        options: &options.read,
        row_parser: &RowParser::new(&batch, &scan.header, options.message_bytes_max, options.reading),
        lane: Lane::Bulk,
        after_record: 0,
        progress,
        stop,
    };
    let notes = if options.all { RowNotes::all()? } else { RowNotes::Sample { kinds: BTreeMap::new(), total: 0 } };
    let mut report = CheckReport {
        counts: ImportCounts::default(),
        problems: ProblemCounts::default(),
        warnings: BTreeMap::new(),
        survey: ColumnSurvey::default(),
        notes,
    };
    progress.start(scan.rows_about(), READ_STYLE);
    let counts = rows::enqueue(&job, &mut importer, &mut report);
    progress.clear();
    Ok(counts?.map(|counts| CheckReport { counts, ..report }))
}

/// Lines about single rows.
enum RowNotes {
    /// The first lines of each kind, each with its number among all lines.
    Sample { kinds: BTreeMap<String, Vec<(u64, String)>>, total: u64 },
    /// Every line, in a temporary file: there may be more lines than rows.
    All(BufWriter<File>),
}

impl RowNotes {
    fn all() -> Result<Self, AppError> {
        tempfile::tempfile().map(|file| Self::All(BufWriter::new(file))).map_err(|error| no_temporary_file(&error))
    }

    fn add(&mut self, kind: &str, row: &CsvRow, text: &str) -> Result<(), AppError> {
        match self {
            Self::All(file) => {
                writeln!(file, "  line {}: {text}", row.line).map_err(|error| no_temporary_file(&error))?;
            }
            Self::Sample { kinds, total } => {
                *total += 1;
                if !kinds.contains_key(kind) {
                    kinds.insert(kind.to_owned(), Vec::new());
                }
                if let Some(lines) = kinds.get_mut(kind).filter(|lines| lines.len() < LINES_MAX) {
                    lines.push((*total, format!("  line {}: {text}\n", row.line)));
                }
            }
        }
        Ok(())
    }
}

fn no_temporary_file(error: &std::io::Error) -> AppError {
    AppError::CannotContinue(format!("the list of rows with problems can't be written to a temporary file: {error}"))
}

/// Chooses the lines to print: one of each kind in turn, up to [`LINES_MAX`]. Returns them in the order of the rows.
fn fair_share(kinds: BTreeMap<String, Vec<(u64, String)>>) -> Vec<String> {
    let mut kinds: Vec<_> = kinds.into_values().map(Vec::into_iter).collect();
    // At least one line of each kind.
    let lines_max = LINES_MAX.max(kinds.len());
    let mut lines = Vec::new();
    while !kinds.is_empty() {
        kinds.retain_mut(|kind| {
            let line = kind.next().filter(|_| lines.len() < lines_max);
            let has_more = line.is_some();
            lines.extend(line);
            has_more
        });
    }
    lines.sort_unstable();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// What was found in the file.
struct CheckReport {
    counts: ImportCounts,
    problems: ProblemCounts,
    /// Warnings by field and code.
    warnings: BTreeMap<String, u64>,
    survey: ColumnSurvey,
    notes: RowNotes,
}

/// The printed report.
struct CheckReportText {
    summary: String,
    notes: RowNotes,
    forecast: String,
}

impl CheckReportText {
    fn print(self) {
        print(&self.summary);
        match self.notes {
            RowNotes::Sample { kinds, total } if total > 0 => {
                let lines = fair_share(kinds);
                let more = total - lines.len() as u64;
                print(&format!("Rows:\n{}", lines.concat()));
                if more > 0 {
                    print(&format!("  ... and {} more lines; --all shows every one\n", grouped(more)));
                }
            }
            RowNotes::Sample { .. } => {}
            RowNotes::All(file) => print_file("Rows:\n", file),
        }
        print(&self.forecast);
    }
}

impl CheckReport {
    fn text(self, file: &Path, scan: &CsvScan, settings: &Settings) -> (CheckReportText, CommandOutcome) {
        let ImportCounts { rows, new, repeated, rejected, warned, .. } = self.counts;
        let count_line = |label: &str, count, note: &str| format!("  {label:<16}{:>11}{note}", grouped(count));
        let mut lines = vec![
            format!("{}: {} rows, {}", row_parser::file_name(file), grouped(rows), file_notes::description(scan)),
            count_line("to be created", new, ""),
            count_line("repeated", repeated, "   (repeat an earlier row: sent once)"),
            count_line("rejected", rejected, "   (not sent: see below)"),
        ];
        if warned > 0 {
            lines.push(count_line("with warnings", warned, "   (see below)"));
        }
        lines.extend(row_parser::encoding_note(scan).map(|note| format!("  {note}")));
        if rows == 0 {
            lines.push("  there are no rows below the header: is this the right file?".to_owned());
        }
        lines.extend(file_notes::notes(file, scan).iter().map(|note| format!("  {note}")));
        let kind_line = |kind: &str, count| format!("  {:>7} x {kind}", grouped(count));
        if !self.problems.is_empty() {
            lines.push("Problems by field:".to_owned());
            lines.extend(self.problems.iter().map(|(kind, count)| kind_line(kind, count)));
        }
        if !self.warnings.is_empty() {
            lines.push("Warnings by field:".to_owned());
            lines.extend(self.warnings.iter().map(|(kind, count)| kind_line(kind, *count)));
        }
        let findings = self.survey.findings();
        if !findings.is_empty() {
            lines.push("Columns:".to_owned());
            lines.extend(findings.iter().map(|finding| match finding.weight {
                FindingWeight::Question => format!("  {finding} (run asks)"),
                FindingWeight::Note => format!("  {finding}"),
            }));
        }
        let text = CheckReportText {
            summary: lines.join("\n") + "\n",
            notes: self.notes,
            forecast: forecast(new, settings) + "\n",
        };
        (text, if rejected > 0 { CommandOutcome::WithRejectedRows } else { CommandOutcome::Success })
    }
}

impl RowVisitor for CheckReport {
    fn rejected(&mut self, _importer: &mut Importer, row: &CsvRow, invalid: &InvalidJob) -> Result<(), AppError> {
        for problem in &invalid.problems {
            let kind = self.problems.count(problem);
            let Problem { field, message, .. } = problem;
            match field {
                Some(field) => self.notes.add(&kind, row, &format!("{field}: {message}"))?,
                None => self.notes.add(&kind, row, message)?,
            }
        }
        Ok(())
    }

    fn accepted(&mut self, row: &CsvRow, valid: ValidRow) -> Result<(), AppError> {
        self.survey.add(&valid.facts, row.line);
        Ok(())
    }

    fn repeated(&mut self, row: &CsvRow, line: u64) -> Result<(), AppError> {
        self.notes.add("repeated", row, &format!("repeats line {line}: sent once"))
    }

    fn warned(&mut self, row: &CsvRow, warning: &Warning) -> Result<(), AppError> {
        let Warning { field, code, kind, message } = warning;
        let sent_as = match kind {
            WarningKind::Converted => "converted",
            WarningKind::Doubtful => "sent as it is",
        };
        let kind = format!("{} {code} ({sent_as})", field.name());
        self.notes.add(&kind, row, &format!("{}: {message} ({sent_as})", field.name()))?;
        *self.warnings.entry(kind).or_default() += 1;
        Ok(())
    }
}

fn forecast(jobs: u64, settings: &Settings) -> String {
    let time = duration(jobs, settings);
    let fee = settings.plan.fee_per_user;
    let cost = if fee > 0.0 {
        format!("{:.2} {currency} at {fee} {currency} a user", fee * jobs as f64, currency = settings.plan.currency)
    } else {
        "unknown: set plan.fee_per_user to what Plu charges you".to_owned()
    };
    format!("Time: {time}\nCost: {cost}")
}

/// How long creating `jobs` users takes at the rate limit, and which limits apply.
fn duration(jobs: u64, settings: &Settings) -> String {
    let rate_limit = settings.rate_limit();
    let limits = [(rate_limit.rate, 1, "second"), (rate_limit.rate_per_minute, 60, "minute")];
    let limits = limits.into_iter().filter_map(|(most, seconds, unit)| Some((most?.get(), seconds, unit)));
    let slowest = limits.min_by(|a, b| (u64::from(a.0) * b.1).cmp(&(u64::from(b.0) * a.1)));
    let mut words = Vec::new();
    let mut seconds = slowest.map_or(0, |(most, seconds, unit)| {
        words.push(format!("{most} requests a {unit}"));
        jobs.saturating_mul(seconds).div_ceil(u64::from(most))
    });
    if let Some(hours) = &rate_limit.hours {
        words.push(format!("in the hours {} of {}", settings.rate_limit.active_hours, settings.rate_limit.time_zone));
        // Whole days, and the remainder within the hours of the last one.
        let active = ((hours.share_of_day() * 86_400.0) as u64).max(1);
        seconds = seconds / active * 86_400 + seconds % active;
    }
    if let Some(per_day) = rate_limit.per_day {
        words.push(format!("{per_day} users a day"));
        seconds = seconds.max(jobs.saturating_sub(1) / per_day.get() * 86_400);
    }
    if words.is_empty() {
        return "as fast as the API answers".to_owned();
    }
    let time = indicatif::HumanDuration(std::time::Duration::from_secs(seconds));
    format!("{time} at {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn each_kind_of_line_gets_an_equal_share() {
        let lines =
            |numbers: std::ops::Range<u64>| numbers.map(|number| (number, number.to_string())).collect::<Vec<_>>();
        let kinds = [("a", lines(0..50)), ("b", lines(60..62)), ("c", lines(100..150))];
        let shown = fair_share(kinds.map(|(kind, lines)| (kind.to_owned(), lines)).into());
        let expected: Vec<String> =
            (0..24).chain(60..62).chain(100..124).map(|number: u64| number.to_string()).collect();
        assert_eq!(shown, expected);
        let kinds = (0..70).map(|number| (number.to_string(), lines(number..number + 1))).collect();
        assert_eq!(fair_share(kinds).len(), 70, "no kind is left out");
    }

    #[test]
    fn the_forecast_respects_every_rate_limit() {
        for (rate_limit, expected) in [
            (&[("rate", "10")][..], "3 hours at 10 requests a second"),
            (&[("rate", "10"), ("rate_per_minute", "300")], "6 hours at 300 requests a minute"),
            (&[("rate", "0")], "as fast as the API answers"),
            (&[("rate", "10"), ("per_day", "30000")], "3 days at 10 requests a second, 30000 users a day"),
            (
                &[("rate", "1"), ("active_hours", "10:00-20:00"), ("time_zone", "Europe/Berlin")],
                "2 days at 1 requests a second, in the hours 10:00-20:00 of Europe/Berlin",
            ),
        ] {
            let variables =
                rate_limit.iter().map(|(key, value)| (format!("PLU_ONBOARD__RATE_LIMIT__{key}"), (*value).to_owned()));
            let settings = Settings::load(None, variables, &Overrides::default()).unwrap();
            assert_eq!(duration(100_000, &settings), expected);
        }
    }
}
