//! `dead list | show | retry | drop`: lists, shows, retries and deletes dead letters, on either kind of queue.
//!
//! `list` prints the list, `view` one dead letter.

mod list;
mod view;

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use self::list::{DeadLetterList, ReasonCounts, count_text};
use crate::adapters::amqp::dead::queue::DeadLetterQueue;
use crate::adapters::amqp::topology::Names;
use crate::adapters::local_queue::dead;
use crate::adapters::local_queue::open::{IfMissing, OpenPurpose, open};
use crate::app::commands::CommandOutcome;
use crate::app::console::grouped;
use crate::app::console::stdout::print;
use crate::app::error::AppError;
use crate::app::service::broker;
use crate::app::service::logging::{new_metrics, start_logging};
use crate::cli::{DeadCommand, DeadListArgs, DeadShowArgs, SelectionArgs};
use crate::clock::Clock;
use crate::config::{QueueUrl, Settings};
use crate::domain::DeadLetter;
use crate::domain::dead_letter::{DeadLetterAction, DeadLetterSelection, WalkResult};

/// Runs the command.
///
/// # Errors
/// [`AppError`] where the queue can't be used, an id is unknown, or a deletion isn't confirmed.
pub(crate) async fn dead(command: &DeadCommand, settings: &Settings) -> Result<CommandOutcome, AppError> {
    start_logging(settings, "warn", std::io::stderr)?;
    let store = DeadLetterStore::open(settings).await?;
    match command {
        DeadCommand::List(arguments) => list(arguments, store).await,
        DeadCommand::Show(arguments) => show(arguments, store).await,
        DeadCommand::Retry(arguments) => {
            if let DeadLetterStore::Broker(queue) = &store {
                queue.has_lanes().await?;
            }
            change(&arguments.selection, store, DeadLetterAction::Retry, "requeued").await
        }
        DeadCommand::Drop(arguments) => {
            if !arguments.yes {
                confirm_deletion(&arguments.selection, store.count()?)?;
            }
            change(&arguments.selection, store, DeadLetterAction::Drop, "deleted").await
        }
    }
}

/// Where a queue's dead letters are.
enum DeadLetterStore {
    Local { connection: Connection, path: PathBuf },
    Broker(Box<DeadLetterQueue>),
}

impl DeadLetterStore {
    async fn open(settings: &Settings) -> Result<Self, AppError> {
        match &settings.queue.url {
            QueueUrl::Local(path) => {
                let connection = open(path, IfMissing::Fail, OpenPurpose::Work, settings.queue.size_mib_max)?;
                Ok(Self::Local { connection, path: path.clone() })
            }
            QueueUrl::Amqp(url) => {
                let names = Names::new(&settings.amqp.prefix);
                let mut connection = broker::connection_config(settings, url, &names, &new_metrics()?)?;
                connection.allow_longest_frames();
                let confirm_timeout = Duration::from_secs(settings.amqp.confirm_timeout_s);
                let seed = u64::from(std::process::id());
                let name = broker::client_name("dead");
                let queue = DeadLetterQueue::open(connection, names, name, confirm_timeout, seed);
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

    /// Passes each dead letter to `choose` and carries out the action that it returns.
    async fn walk(
        self,
        choose: &mut (dyn FnMut(&DeadLetter) -> DeadLetterAction + Send),
    ) -> Result<WalkResult, AppError> {
        match self {
            Self::Local { mut connection, path } => {
                Ok(dead::walk(&mut connection, &path, Clock::System.now(), choose)?)
            }
            Self::Broker(queue) => Ok(queue.walk(choose).await?),
        }
    }
}

async fn list(arguments: &DeadListArgs, store: DeadLetterStore) -> Result<CommandOutcome, AppError> {
    let mut list = DeadLetterList::new(arguments.limit, arguments.json, arguments.reason.clone());
    store
        .walk(&mut |dead_letter| {
            if let Some(line) = list.add(dead_letter) {
                print(&line);
            }
            DeadLetterAction::Keep
        })
        .await?;
    print(&list.end());
    Ok(CommandOutcome::Success)
}

async fn show(arguments: &DeadShowArgs, store: DeadLetterStore) -> Result<CommandOutcome, AppError> {
    let mut text = None;
    store
        .walk(&mut |dead_letter| {
            if dead_letter.id != arguments.id {
                return DeadLetterAction::Keep;
            }
            let view = if arguments.json { view::as_json } else { view::as_text };
            text = Some(view(dead_letter, arguments.reveal));
            DeadLetterAction::Stop
        })
        .await?;
    let text = text.ok_or_else(|| AppError::Usage(unknown_ids(std::iter::once(&arguments.id))))?;
    print(&text);
    Ok(CommandOutcome::Success)
}

/// Retries or deletes the selected dead letters; `done` names it in the answer.
async fn change(
    arguments: &SelectionArgs,
    store: DeadLetterStore,
    action: DeadLetterAction,
    done: &str,
) -> Result<CommandOutcome, AppError> {
    let selection = selection(arguments);
    let mut missing = match &selection {
        DeadLetterSelection::Ids(ids) => ids.clone(),
        _ => BTreeSet::new(),
    };
    let (mut reasons, mut is_empty) = (ReasonCounts::default(), true);
    let walked = store
        .walk(&mut |dead_letter| {
            reasons.count(dead_letter);
            if !selection.includes(dead_letter) {
                return DeadLetterAction::Keep;
            }
            is_empty = false;
            missing.remove(&dead_letter.id);
            action
        })
        .await?;
    print(&format!("{} of {} {done}\n", grouped(walked.done), count_text(walked.seen)));
    if walked.not_ready > 0 {
        return Err(AppError::CannotContinue(format!(
            "{} were left unchanged, because their event isn't in results.ndjson yet: start the worker, or try again \
             in a few seconds",
            grouped(walked.not_ready)
        )));
    }
    if let DeadLetterSelection::Reason(reason) = &selection
        && is_empty
    {
        return Err(AppError::CannotContinue(reasons.missing(reason)));
    }
    if !missing.is_empty() {
        return Err(AppError::CannotContinue(unknown_ids(missing.iter())));
    }
    Ok(CommandOutcome::Success)
}

fn selection(arguments: &SelectionArgs) -> DeadLetterSelection {
    match &arguments.reason {
        Some(reason) => DeadLetterSelection::Reason(reason.clone()),
        None if arguments.all => DeadLetterSelection::All,
        None => DeadLetterSelection::Ids(arguments.ids.iter().cloned().collect()),
    }
}

fn unknown_ids<'i>(ids: impl Iterator<Item = &'i String>) -> String {
    let ids = ids.map(String::as_str).collect::<Vec<_>>().join(", ");
    format!(
        "no dead letter has the id {ids}: it was requeued or deleted, or another process is reading it right now; see \
         dead list"
    )
}

/// Asks at the terminal before deleting, which can't be undone.
fn confirm_deletion(arguments: &SelectionArgs, count: u64) -> Result<(), AppError> {
    let what = match selection(arguments) {
        DeadLetterSelection::All => format!("every dead letter ({})", grouped(count)),
        DeadLetterSelection::Reason(reason) => format!("every dead letter with the reason {reason}"),
        DeadLetterSelection::Ids(ids) => count_text(ids.len() as u64),
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
