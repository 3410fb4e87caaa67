//! The first step of a run: its rows are put on its queue. Invalid rows get their outcome here.

use tokio_util::sync::CancellationToken;

use crate::adapters::csv::CsvRow;
use crate::adapters::local_queue::import::{self as queue, BatchKind, Importer, KnownBatch, RowPosition};
use crate::adapters::local_queue::open::OpenPurpose;
use crate::app::commands::run::job::RunJob;
use crate::app::console::next_command::check_command;
use crate::app::console::progress::{ConsoleProgress, READ_STYLE};
use crate::app::error::AppError;
use crate::app::input::file_notes;
use crate::app::input::questions::confirm_columns;
use crate::app::input::row_parser::{self, RowParser, ValidRow};
use crate::app::input::rows::{self, RowVisitor, RowsJob};
use crate::clock::Clock;
use crate::domain::columns::{ColumnFinding, ColumnSurvey, FindingWeight};
use crate::domain::job::InvalidJob;
use crate::domain::{Event, Lane};

/// Imports the rows on a blocking thread. Returns its arguments and the batch; `None`: stopped before the end.
pub(super) async fn import(
    job: RunJob,
    progress: ConsoleProgress,
    stop: CancellationToken,
) -> Result<(RunJob, ConsoleProgress, Option<KnownBatch>), AppError> {
    let thread = tokio::task::spawn_blocking(move || {
        let batch = import_rows(&job, &progress, &stop)?;
        Ok((job, progress, batch))
    });
    thread.await.map_err(|error| AppError::panicked("reading the file", &error))?
}

fn import_rows(
    job: &RunJob,
    progress: &ConsoleProgress,
    stop: &CancellationToken,
) -> Result<Option<KnownBatch>, AppError> {
    let mut connection = job.open(OpenPurpose::Import)?;
    let known = job.find_batch(&mut connection)?;
    if let Some(known) = known.as_ref().filter(|known| known.is_complete) {
        return Ok(Some(known.clone()));
    }
    job.keep_input()?;
    print_notes(job, progress);
    progress.start(job.scan.rows_about(), READ_STYLE);
    let mut importer = Importer::begin(connection, &job.queue, &job.batch, BatchKind::Run, known.as_ref())?;
    let row_parser = RowParser::new(&job.batch, &job.scan.header, job.settings.queue.message_bytes_max, job.reading);
    let rows_job = RowsJob {
        file: &job.file,
        read_from: &job.input,
        scan: &job.scan,
        options: &job.options,
        row_parser: &row_parser,
        lane: job.settings.import.lane,
        after_record: known.as_ref().map_or(0, |known| known.last_record),
        progress,
        stop,
    };
    let mut visitor = RowRecorder { row_parser: &row_parser, lane: rows_job.lane, survey: ColumnSurvey::default() };
    let read = rows::enqueue(&rows_job, &mut importer, &mut visitor);
    progress.clear();
    let read = read.and_then(|counts| {
        let findings = visitor.survey.findings();
        // A stopped run sends nothing, and looks at the rows that are left when it resumes.
        if counts.is_some() {
            confirm_columns(&findings, job.is_answered)?;
            print_questions(&findings, progress);
        }
        Ok(counts)
    });
    let counts = match read {
        Ok(counts) => counts,
        Err(error) => {
            // The user has to correct the file, which makes it another one: the next start imports it from its
            // beginning.
            importer.finish(false)?;
            let mut connection = job.open(OpenPurpose::Work)?;
            if let Some(known) = job.find_batch(&mut connection)? {
                queue::discard(&mut connection, &job.queue, known.id)?;
            }
            return Err(error);
        }
    };
    importer.finish(counts.is_some())?;
    let Some(counts) = counts else { return Ok(None) };
    if counts.warned > 0 {
        progress.print_line(&format!(
            "note: {} rows have values that may be wrong. List them with:\n  {}",
            counts.warned,
            check_command(&job.file)
        ));
    }
    job.find_batch(&mut job.open(OpenPurpose::Work)?)
}

fn print_notes(job: &RunJob, progress: &ConsoleProgress) {
    for note in file_notes::notes(&job.file, &job.scan) {
        progress.print_line(&format!("note: {note}"));
    }
    if let Some(note) = row_parser::encoding_note(&job.scan) {
        progress.print_line(&format!("note: {note}"));
    }
}

/// Prints what was answered with `--yes`, or concerns a simulated API.
fn print_questions(findings: &[ColumnFinding], progress: &ConsoleProgress) {
    for finding in findings.iter().filter(|finding| finding.weight == FindingWeight::Question) {
        progress.print_line(&format!("note: {finding}"));
    }
}

/// Records the event of an invalid row at once, like any other outcome, and looks at the columns of valid ones.
struct RowRecorder<'i> {
    row_parser: &'i RowParser<'i>,
    lane: Lane,
    survey: ColumnSurvey,
}

impl RowVisitor for RowRecorder<'_> {
    fn accepted(&mut self, row: &CsvRow, valid: ValidRow) -> Result<(), AppError> {
        self.survey.add(&valid.facts, row.line);
        Ok(())
    }

    fn rejected(&mut self, importer: &mut Importer, row: &CsvRow, invalid: &InvalidJob) -> Result<(), AppError> {
        let now = Clock::System.now();
        let RowParser { file, batch_id, .. } = self.row_parser;
        let surrogate_key = row_parser::surrogate_key(batch_id, row.line);
        let identity = rows::identity_of_rejected(&invalid.identity, batch_id, row, file);
        let event = Event::of_invalid(invalid.problems.clone(), identity, surrogate_key, now);
        let place = RowPosition { record: row.record, line: row.line };
        Ok(importer.reject(place, surrogate_key, &event, self.lane, now)?)
    }
}
