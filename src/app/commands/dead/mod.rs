//! `dead list | show | retry | drop`: looks after the jobs that were given up, on either kind of queue.

mod view;

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use crate::adapters::amqp::dead::DeadQueue;
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::dead;
use crate::adapters::local_queue::open::{IfMissing, Purpose, open};
use crate::app::commands::dead::view::{Listing, Reasons, letters_in_words, one_as_json, one_as_text};
use crate::app::console::error::AppError;
use crate::app::console::stdout::print;
use crate::app::results::summary::grouped;
use crate::app::service::broker;
use crate::app::{Finished, start_logging};
use crate::cli::{DeadCommand, DeadListArgs, DeadShowArgs, SelectionArgs};
use crate::clock::Clock;
use crate::config::{QueueUrl, Settings};
use crate::domain::DeadLetter;
use crate::domain::dead_letter::{Selection, Verdict, Walked};

/// Does what is asked.
///
/// # Errors
/// [`AppError`] where the queue can't be used, an id is unknown, or a deletion isn't confirmed.
pub(crate) async fn dead(command: &DeadCommand, settings: &Settings) -> Result<Finished, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    let letters = DeadLetters::open(settings).await?;
    match command {
        DeadCommand::List(arguments) => list(arguments, letters).await,
        DeadCommand::Show(arguments) => show(arguments, letters).await,
        DeadCommand::Retry(arguments) => {
            if let DeadLetters::Broker(queue) = &letters {
                queue.has_lanes().await?;
            }
            change(&arguments.selection, letters, Verdict::Retry, "put back on their lane").await
        }
        DeadCommand::Drop(arguments) => {
            if !arguments.yes {
                ask(&arguments.selection, letters.count()?)?;
            }
            change(&arguments.selection, letters, Verdict::Drop, "deleted").await
        }
    }
}

/// The dead letters of a queue.
enum DeadLetters {
    Local { connection: Connection, path: PathBuf },
    Broker(Box<DeadQueue>),
}

impl DeadLetters {
    async fn open(settings: &Settings) -> Result<Self, AppError> {
        match &settings.queue.url {
            QueueUrl::Local(path) => {
                let connection = open(path, IfMissing::Fail, Purpose::Work, settings.queue.size_mib_max)?;
                Ok(Self::Local { connection, path: path.clone() })
            }
            QueueUrl::Amqp(url) => {
                let names = Names::new(&settings.amqp.prefix);
                let mut link = broker::link(settings, url, &names, &crate::app::metrics()?)?;
                link.allow_longest_frames();
                let confirm_timeout = Duration::from_secs(settings.amqp.confirm_timeout_s);
                let seed = u64::from(std::process::id());
                let queue = DeadQueue::open(link, names, broker::client_name("dead"), confirm_timeout, seed);
                Ok(Self::Broker(Box::new(queue.await?)))
            }
        }
    }

    fn count(&self) -> Result<u64, AppError> {
        match self {
            Self::Local { connection, path } => Ok(dead::count(connection, path)?),
            Self::Broker(queue) => Ok(u64::from(queue.ready())),
        }
    }

    async fn walk(self, judge: &mut (dyn FnMut(&DeadLetter) -> Verdict + Send)) -> Result<Walked, AppError> {
        match self {
            Self::Local { mut connection, path } => Ok(dead::walk(&mut connection, &path, Clock::System.now(), judge)?),
            Self::Broker(queue) => Ok(queue.walk(judge).await?),
        }
    }
}

async fn list(arguments: &DeadListArgs, letters: DeadLetters) -> Result<Finished, AppError> {
    let mut listing = Listing::new(arguments.limit, arguments.json, arguments.reason.clone());
    letters
        .walk(&mut |letter| {
            if let Some(line) = listing.add(letter) {
                print(&line);
            }
            Verdict::Keep
        })
        .await?;
    print(&listing.end());
    Ok(Finished::Well)
}

async fn show(arguments: &DeadShowArgs, letters: DeadLetters) -> Result<Finished, AppError> {
    let mut shown = None;
    letters
        .walk(&mut |letter| {
            if letter.id != arguments.id {
                return Verdict::Keep;
            }
            let view = if arguments.json { one_as_json } else { one_as_text };
            shown = Some(view(letter, arguments.reveal));
            Verdict::Enough
        })
        .await?;
    let shown = shown.ok_or_else(|| AppError::Usage(unknown(std::iter::once(&arguments.id))))?;
    print(&shown);
    Ok(Finished::Well)
}

async fn change(
    arguments: &SelectionArgs,
    letters: DeadLetters,
    verdict: Verdict,
    done: &str,
) -> Result<Finished, AppError> {
    let selection = selection(arguments);
    let mut missing = match &selection {
        Selection::Ids(ids) => ids.clone(),
        _ => BTreeSet::new(),
    };
    let (mut reasons, mut is_empty) = (Reasons::default(), true);
    let walked = letters
        .walk(&mut |letter| {
            reasons.count(letter);
            if !selection.includes(letter) {
                return Verdict::Keep;
            }
            is_empty = false;
            missing.remove(&letter.id);
            verdict
        })
        .await?;
    print(&format!("{} of {} {done}\n", grouped(walked.done), letters_in_words(walked.seen)));
    if walked.not_ready > 0 {
        return Err(AppError::CannotContinue(format!(
            "{} were left alone, because their event isn't in results.ndjson yet: start the worker, or try again in a few seconds",
            grouped(walked.not_ready)
        )));
    }
    if let Selection::Reason(reason) = &selection
        && is_empty
    {
        return Err(AppError::CannotContinue(reasons.without(reason)));
    }
    if !missing.is_empty() {
        return Err(AppError::CannotContinue(unknown(missing.iter())));
    }
    Ok(Finished::Well)
}

fn selection(arguments: &SelectionArgs) -> Selection {
    match &arguments.reason {
        Some(reason) => Selection::Reason(reason.clone()),
        None if arguments.all => Selection::All,
        None => Selection::Ids(arguments.ids.iter().cloned().collect()),
    }
}

fn unknown<'i>(ids: impl Iterator<Item = &'i String>) -> String {
    let ids = ids.map(String::as_str).collect::<Vec<_>>().join(", ");
    format!(
        "no dead letter has the id {ids}: it was put back or deleted, or another process looks at it right now; see dead list"
    )
}

/// Deleting is final.
fn ask(arguments: &SelectionArgs, count: u64) -> Result<(), AppError> {
    let what = match selection(arguments) {
        Selection::All => format!("every dead letter ({})", grouped(count)),
        Selection::Reason(reason) => format!("every dead letter with the reason {reason}"),
        Selection::Ids(ids) => letters_in_words(ids.len() as u64),
    };
    if !std::io::stdin().is_terminal() {
        return Err(AppError::Usage(format!("deleting {what} is final: add --yes to do it")));
    }
    print(&format!("Delete {what} for good? Type yes: "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(AppError::CannotContinue("nothing was deleted".to_owned()))
}
