//! `check FILE`: the plan, without touching the network.
//!
//! The rows go through the same door as those of a run, into an embedded queue in a temporary folder that is
//! gone afterwards; so what is said here about repeats and conflicts is what a run will do.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::error::AppError;
use super::intake::{self, Intake};
use super::progress::{Progress, READ_STYLE};
use super::results;
use super::rows::{self, Counts, RowsJob, Visitor};
use super::stdout::print;
use super::summary::grouped;
use super::{Finished, read_options, signals, start_logging};
use crate::adapters::csv::{self, Row, Scan};
use crate::adapters::local_queue::import::{Batch, Importer, Kind};
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::cli::CheckArgs;
use crate::config::Settings;
use crate::domain::job::InvalidJob;
use crate::domain::{Lane, Problem, Warning};

/// Lines that are printed about single rows unless all are asked for.
const LINES_MAX: usize = 50;

/// Checks.
///
/// # Errors
/// [`AppError`] where the file can't be read.
pub async fn check(arguments: &CheckArgs, settings: Settings) -> Result<Finished, AppError> {
    let progress = Progress::new(settings.log.format);
    start_logging(&settings, "warn", std::io::stderr)?;
    let options = read_options(&arguments.csv, &settings);
    let file = arguments.file.clone();
    let all = arguments.all;
    let stop = signals::stop_on_signal(|| {})?;
    let thread = tokio::task::spawn_blocking(move || {
        let scan = csv::scan(&file, &options)?;
        let plan = read(&file, &scan, &options, settings.queue.message_bytes_max, all, &progress, &stop)?;
        Ok::<_, AppError>(plan.map(|plan| plan.text(&intake::file_name(&file), &scan, &settings)))
    });
    let text = thread.await.map_err(|error| AppError::CannotGoOn(format!("reading ended abnormally: {error}")))??;
    match text {
        None => Err(AppError::CannotGoOn("stopped before the end of the file".to_owned())),
        Some((text, finished)) => {
            print(&text);
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
        .map_err(|error| AppError::CannotGoOn(format!("no temporary folder could be made: {error}")))?;
    let path = folder.path().join("queue.db");
    let batch = Batch {
        batch_id: intake::batch_id(file, &scan.fingerprint),
        fingerprint: scan.fingerprint,
        file: intake::file_name(file),
    };
    let connection = open(&path, IfMissing::Create, Purpose::Scratch, u64::from(u32::MAX))?;
    // Already now, so that not even kill -9 leaves anything of the customers behind; the open file goes on.
    folder.close().map_err(|error| AppError::CannotGoOn(format!("the temporary folder can't be removed: {error}")))?;
    let mut importer = Importer::begin(connection, &path, &batch, Kind::Run, None)?;
    let intake =
        Intake { file: batch.file.clone(), batch_id: batch.batch_id.clone(), header: &scan.header, message_bytes_max };
    let job = RowsJob { file, scan, options, intake: &intake, lane: Lane::Bulk, after_record: 0, progress, stop };
    let mut plan = Plan { lines_max: if all { usize::MAX } else { LINES_MAX }, ..Plan::default() };
    progress.start(scan.rows_about(), READ_STYLE);
    let counts = rows::enqueue(&job, &mut importer, &mut plan);
    progress.clear();
    Ok(counts?.map(|counts| Plan { counts, ..plan }))
}

/// What the file holds.
#[derive(Debug, Default)]
struct Plan {
    counts: Counts,
    problems: BTreeMap<String, u64>,
    lines: Vec<String>,
    lines_max: usize,
    unlisted: u64,
}

impl Plan {
    fn list(&mut self, row: &Row, what: &str) {
        if self.lines.len() < self.lines_max {
            self.lines.push(format!("  line {}: {what}", row.line));
        } else {
            self.unlisted += 1;
        }
    }

    fn text(&self, file: &str, scan: &Scan, settings: &Settings) -> (String, Finished) {
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
        lines.extend(intake::encoding_note(scan).map(|note| format!("  {note}")));
        if rows == 0 {
            lines.push("  there are no rows below the header: is this the right file?".to_owned());
        }
        for (column, title) in scan.header.ignored() {
            lines.push(format!("  column {column} {title:?} is not sent; it comes back in the result files"));
        }
        if !self.problems.is_empty() {
            lines.push("Problems by field:".to_owned());
            lines.extend(self.problems.iter().map(|(cluster, count)| format!("  {:>7} x {cluster}", grouped(*count))));
        }
        if !self.lines.is_empty() {
            lines.push("Rows:".to_owned());
            lines.extend(self.lines.iter().cloned());
        }
        if self.unlisted > 0 {
            lines.push(format!("  ... and {} more lines; --all shows every one", grouped(self.unlisted)));
        }
        lines.push(forecast(new, settings));
        let finished = if rejected > 0 { Finished::WithRejects } else { Finished::Well };
        (lines.join("\n") + "\n", finished)
    }
}

impl Visitor for Plan {
    fn rejected(&mut self, _importer: &mut Importer, row: &Row, invalid: &InvalidJob) -> Result<(), AppError> {
        for problem in &invalid.problems {
            results::count(&mut self.problems, problem);
            let Problem { field, message, .. } = problem;
            match field {
                Some(field) => self.list(row, &format!("{field}: {message}")),
                None => self.list(row, message),
            }
        }
        Ok(())
    }

    fn repeated(&mut self, row: &Row, line: u64) {
        self.list(row, &format!("the same as line {line}: sent once"));
    }

    fn warned(&mut self, row: &Row, warning: &Warning) {
        self.list(row, &format!("{}: {} (sent as it is)", warning.field.name(), warning.message));
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
    let pace = settings.pace();
    let limits = [(pace.rate, 1, "second"), (pace.rate_per_minute, 60, "minute")];
    let limits = limits.into_iter().filter_map(|(most, seconds, unit)| Some((most?.get(), seconds, unit)));
    let slowest = limits.min_by(|a, b| (u64::from(a.0) * b.1).cmp(&(u64::from(b.0) * a.1)));
    let mut words = Vec::new();
    let mut seconds = slowest.map_or(0, |(most, seconds, unit)| {
        words.push(format!("{most} requests a {unit}"));
        jobs.saturating_mul(seconds).div_ceil(u64::from(most))
    });
    if let Some(hours) = &pace.hours {
        words.push(format!("in the hours {} of {}", settings.pace.active_hours, settings.pace.time_zone));
        // In whole days beside the last: what is left of that fits into its hours.
        let active = ((hours.share_of_day() * 86_400.0) as u64).max(1);
        seconds = seconds / active * 86_400 + seconds % active;
    }
    if let Some(per_day) = pace.per_day {
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
    fn the_time_goes_by_everything_that_slows_the_work_down() {
        for (pace, expected) in [
            (&[("rate", "10")][..], "3 hours at 10 requests a second"),
            (&[("rate", "10"), ("rate_per_minute", "300")], "6 hours at 300 requests a minute"),
            (&[("rate", "0")], "as fast as the API answers"),
            (&[("rate", "10"), ("per_day", "30000")], "3 days at 10 requests a second, 30000 users a day"),
            (
                &[("rate", "1"), ("active_hours", "10:00-20:00"), ("time_zone", "Europe/Berlin")],
                "2 days at 1 requests a second, in the hours 10:00-20:00 of Europe/Berlin",
            ),
        ] {
            let variables = pace.iter().map(|(key, value)| (format!("PLU_ONBOARD__PACE__{key}"), (*value).to_owned()));
            let settings = Settings::load(None, variables, &Overrides::default()).unwrap();
            assert_eq!(duration(100_000, &settings), expected);
        }
    }
}
