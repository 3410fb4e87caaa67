//! `check FILE`: the plan, without touching the network.
//!
//! The rows go through the same door as those of a run, into an embedded queue in a temporary folder that is
//! gone afterwards; so what is said here about repeats and conflicts is what a run will do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::{self, Row, Scan};
use crate::adapters::local_queue::import::{Batch, Importer, Kind};
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::app::console::error::AppError;
use crate::app::console::progress::{Progress, READ_STYLE};
use crate::app::console::stdout::{print, print_file};
use crate::app::input::row_parser::{self, RowParser};
use crate::app::input::rows::{self, Counts, RowsJob, Visitor};
use crate::app::results::summary::grouped;
use crate::app::results::tables;
use crate::app::service::signals;
use crate::app::{Finished, read_options, start_logging};
use crate::cli::CheckArgs;
use crate::config::Settings;
use crate::domain::job::InvalidJob;
use crate::domain::{Lane, Problem, Warning};

/// Lines that are printed about single rows unless all are asked for. Each kind of them gets its share.
const LINES_MAX: usize = 50;

/// Checks.
///
/// # Errors
/// [`AppError`] where the file can't be read.
pub(crate) async fn check(arguments: &CheckArgs, settings: Settings) -> Result<Finished, AppError> {
    let progress = Progress::new(settings.log.format);
    start_logging(&settings, "warn", std::io::stderr)?;
    let options = read_options(&arguments.csv, &settings);
    let file = arguments.file.clone();
    let all = arguments.all;
    let stop = signals::stop_on_signal(|| {})?;
    let thread = tokio::task::spawn_blocking(move || {
        let scan = csv::scan(&file, &options)?;
        let plan = read(&file, &scan, &options, settings.queue.message_bytes_max, all, &progress, &stop)?;
        Ok::<_, AppError>(plan.map(|plan| plan.text(&row_parser::file_name(&file), &scan, &settings)))
    });
    let text =
        thread.await.map_err(|error| AppError::CannotContinue(format!("reading ended abnormally: {error}")))??;
    match text {
        None => Err(AppError::CannotContinue("stopped before the end of the file".to_owned())),
        Some((text, finished)) => {
            text.print();
            Ok(finished)
        }
    }
}

fn read(
    file: &std::path::Path,
    scan: &Scan,
    options: &csv::ReadOptions,
    message_bytes_max: usize,
    all: bool,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Option<Plan>, AppError> {
    let folder = tempfile::Builder::new()
        .prefix("plu-onboard-check-")
        .tempdir()
        .map_err(|error| AppError::CannotContinue(format!("no temporary folder could be made: {error}")))?;
    let path = folder.path().join("queue.db");
    let batch = Batch {
        batch_id: row_parser::batch_id(file, &scan.fingerprint),
        fingerprint: scan.fingerprint,
        file: row_parser::file_name(file),
    };
    let connection = open(&path, IfMissing::Create, Purpose::Scratch, u64::from(u32::MAX))?;
    // Already now, so that not even kill -9 leaves anything of the customers behind; the open file goes on.
    folder
        .close()
        .map_err(|error| AppError::CannotContinue(format!("the temporary folder can't be removed: {error}")))?;
    let mut importer = Importer::begin(connection, &path, &batch, Kind::Run, None)?;
    let row_parser = RowParser {
        file: batch.file.clone(),
        batch_id: batch.batch_id.clone(),
        header: &scan.header,
        message_bytes_max,
    };
    let job = RowsJob {
        file,
        read_from: file,
        scan,
        options,
        row_parser: &row_parser,
        lane: Lane::Bulk,
        after_record: 0,
        progress,
        stop,
    };
    let listing = if all { Listing::all()? } else { Listing::Sample(BTreeMap::new(), 0) };
    let mut plan = Plan { counts: Counts::default(), problems: BTreeMap::new(), warnings: BTreeMap::new(), listing };
    progress.start(scan.rows_about(), READ_STYLE);
    let counts = rows::enqueue(&job, &mut importer, &mut plan);
    progress.clear();
    Ok(counts?.map(|counts| Plan { counts, ..plan }))
}

/// What is said about single rows.
enum Listing {
    /// The first lines of each kind, each with its number among all lines, and how many lines there were.
    Sample(BTreeMap<String, Vec<(u64, String)>>, u64),
    /// Every line, on the disk: there may be more than rows.
    All(BufWriter<File>),
}

impl Listing {
    fn all() -> Result<Self, AppError> {
        tempfile::tempfile().map(|file| Self::All(BufWriter::new(file))).map_err(|error| no_temporary_file(&error))
    }

    fn add(&mut self, kind: &str, row: &Row, what: &str) -> Result<(), AppError> {
        match self {
            Self::All(file) => {
                writeln!(file, "  line {}: {what}", row.line).map_err(|error| no_temporary_file(&error))?;
            }
            Self::Sample(kinds, said) => {
                *said += 1;
                if !kinds.contains_key(kind) {
                    kinds.insert(kind.to_owned(), Vec::new());
                }
                if let Some(lines) = kinds.get_mut(kind).filter(|lines| lines.len() < LINES_MAX) {
                    lines.push((*said, format!("  line {}: {what}\n", row.line)));
                }
            }
        }
        Ok(())
    }
}

fn no_temporary_file(error: &std::io::Error) -> AppError {
    AppError::CannotContinue(format!("what there is to say about rows can't be kept in a temporary file: {error}"))
}

/// The lines that are shown, in the order of the rows: one of each kind in turn, until there are enough.
fn fair_share(kinds: BTreeMap<String, Vec<(u64, String)>>) -> Vec<String> {
    let mut kinds: Vec<_> = kinds.into_values().map(Vec::into_iter).collect();
    // No kind is left out, even if there are more of them.
    let most = LINES_MAX.max(kinds.len());
    let mut lines = Vec::new();
    while !kinds.is_empty() {
        kinds.retain_mut(|kind| {
            let next = kind.next().filter(|_| lines.len() < most);
            let goes_on = next.is_some();
            lines.extend(next);
            goes_on
        });
    }
    lines.sort_unstable();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// What the file holds.
struct Plan {
    counts: Counts,
    problems: BTreeMap<String, u64>,
    warnings: BTreeMap<String, u64>,
    listing: Listing,
}

/// What is printed.
struct PlanText {
    summary: String,
    listing: Listing,
    forecast: String,
}

impl PlanText {
    fn print(self) {
        print(&self.summary);
        match self.listing {
            Listing::Sample(kinds, said) if said > 0 => {
                let lines = fair_share(kinds);
                let more = said - lines.len() as u64;
                print(&format!("Rows:\n{}", lines.concat()));
                if more > 0 {
                    print(&format!("  ... and {} more lines; --all shows every one\n", grouped(more)));
                }
            }
            Listing::Sample(..) => {}
            Listing::All(file) => print_file("Rows:\n", file),
        }
        print(&self.forecast);
    }
}

impl Plan {
    fn text(self, file: &str, scan: &Scan, settings: &Settings) -> (PlanText, Finished) {
        let Counts { rows, new, repeated, rejected, warned, .. } = self.counts;
        let mut lines = vec![
            format!(
                "{file}: {} rows, {}, separated by {}s",
                grouped(rows),
                scan.encoding.name(),
                scan.delimiter.name()
            ),
            format!("  to be created   {:>11}", grouped(new)),
            format!("  repeated        {:>11}   (the same as an earlier row: sent once)", grouped(repeated)),
            format!("  rejected        {:>11}   (not sent: see below)", grouped(rejected)),
        ];
        if warned > 0 {
            lines.push(format!("  worth a look    {:>11}   (sent as they are)", grouped(warned)));
        }
        lines.extend(row_parser::encoding_note(scan).map(|note| format!("  {note}")));
        if rows == 0 {
            lines.push("  there are no rows below the header: is this the right file?".to_owned());
        }
        for (column, title) in scan.header.ignored() {
            lines.push(format!("  column {column} {title:?} is not sent; it comes back in the result files"));
        }
        for (title, kinds) in [("Problems by field:", &self.problems), ("Worth a look, by field:", &self.warnings)] {
            if !kinds.is_empty() {
                lines.push(title.to_owned());
                lines.extend(kinds.iter().map(|(kind, count)| format!("  {:>7} x {kind}", grouped(*count))));
            }
        }
        let text = PlanText {
            summary: lines.join("\n") + "\n",
            listing: self.listing,
            forecast: forecast(new, settings) + "\n",
        };
        (text, if rejected > 0 { Finished::WithRejects } else { Finished::Well })
    }
}

impl Visitor for Plan {
    fn rejected(&mut self, _importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError> {
        for problem in &invalid.problems {
            let kind = tables::count(&mut self.problems, problem);
            let Problem { field, message, .. } = problem;
            match field {
                Some(field) => self.listing.add(&kind, row, &format!("{field}: {message}"))?,
                None => self.listing.add(&kind, row, message)?,
            }
        }
        Ok(())
    }

    fn repeated(&mut self, row: &Row, line: u64) -> Result<(), AppError> {
        self.listing.add("repeated", row, &format!("the same as line {line}: sent once"))
    }

    fn warned(&mut self, row: &Row, warning: &Warning) -> Result<(), AppError> {
        let Warning { field, code, message } = warning;
        let kind = format!("{} {code}", field.name());
        self.listing.add(&kind, row, &format!("{}: {message} (sent as it is)", field.name()))?;
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

/// How long it takes by the pace that is set, in words.
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
        // In whole days beside the last: what is left of that fits into its hours.
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
    fn each_kind_of_line_gets_its_share_in_the_order_of_the_rows() {
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
    fn the_time_goes_by_everything_that_slows_the_work_down() {
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
