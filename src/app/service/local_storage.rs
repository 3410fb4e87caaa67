//! The threads that write the outcomes of an embedded queue, and what watches them: for `run` and `worker`.
//!
//! While outcomes can't be written, no user is created. At the end, outcomes that could not be written are copied to
//! the emergency file.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::local_queue::emergency::EmergencyFile;
use crate::adapters::local_queue::export::EventsFileExporter;
use crate::adapters::local_queue::source::{LocalQueueSource, POLL_INTERVAL, WhenEmpty};
use crate::adapters::local_queue::storage::StorageState;
use crate::adapters::local_queue::store::{LocalQueueStore, StoreConfig};
use crate::adapters::local_queue::watch;
use crate::app::error::AppError;
use crate::clock::Clock;
use crate::domain::Lane;
use crate::pipeline::Context;
use crate::telemetry::OutcomeStorageChanged;

/// Name of the events file in the folder of results.
pub(crate) const EVENTS_FILE: &str = "results.ndjson";

/// The running threads.
pub(crate) struct LocalStorage {
    exporter: EventsFileExporter,
    state: StorageState,
    emergency: EmergencyFile,
    watch: AbortOnDropHandle<()>,
}

impl LocalStorage {
    /// Reads what an earlier process could not write, and starts the threads. Returns the sources of both lanes, by
    /// lane. `open` opens the queue, `results` is the folder of the events file.
    ///
    /// # Errors
    /// [`AppError`] where the queue or the events file can't be used.
    pub(crate) fn start<A: Send + Sync + 'static>(
        context: &Arc<Context<A>>,
        queue: &Path,
        results: &Path,
        when_empty: WhenEmpty,
        open: impl Fn() -> Result<Connection, AppError>,
    ) -> Result<(Self, [LocalQueueSource; 2]), AppError> {
        let emergency = EmergencyFile::of(queue, results);
        emergency.restore(&mut open()?, queue)?;
        let (state, stop) = (StorageState::default(), context.stop.clone());
        let on_failure = move || stop.cancel();
        let exporter =
            EventsFileExporter::start(open()?, queue, &results.join(EVENTS_FILE), state.clone(), on_failure)?;
        let config = StoreConfig {
            jobs_max: context.policy.jobs_max(),
            on_finished: exporter.waker(),
            stop: context.stop.clone(),
            storage: state.clone(),
        };
        let store = LocalQueueStore::start(open()?, queue, config)?;
        let on_change = {
            let (context, state) = (Arc::clone(context), state.clone());
            move |failure: Option<&str>| {
                context.gate.set_event_sink_open(failure.is_none());
                // Nothing resumes any more when the worker stops.
                if failure.is_some() || !context.stop.is_cancelled() {
                    OutcomeStorageChanged { failure, waiting: state.unwritten_count() }.emit(&context.metrics);
                }
            }
        };
        let watching = tokio::spawn(watch::watch(state.clone(), emergency.clone(), on_change));
        let sources =
            Lane::ALL.map(|lane| LocalQueueSource::new(store.clone(), lane, when_empty, POLL_INTERVAL, Clock::System));
        Ok((Self { exporter, state, emergency, watch: AbortOnDropHandle::new(watching) }, sources))
    }

    /// Ends the threads, after both sources were dropped.
    ///
    /// # Errors
    /// [`AppError::CannotContinue`] where outcomes are not on the queue or not in the events file.
    pub(crate) async fn close(self) -> Result<(), AppError> {
        let Self { exporter, state, emergency, watch } = self;
        drop(watch);
        // If a thread hangs, the events file isn't waited for: the next start completes it.
        watch::close(&state, &emergency).await.map_err(|error| AppError::CannotContinue(error.to_string()))?;
        tokio::task::spawn_blocking(|| exporter.finish())
            .await
            .map_err(|error| AppError::panicked("writing events", &error))??;
        Ok(())
    }
}
