//! Export of spans to the OpenTelemetry collector in `OTEL_EXPORTER_OTLP_ENDPOINT`, if the program was built with the
//! feature `otlp`.

use crate::app::error::AppError;
use crate::telemetry::Metrics;

/// OpenTelemetry's standard variable.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The span exporter, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Traces(#[cfg(feature = "otlp")] Option<crate::adapters::otlp::TraceExporter>);

impl Traces {
    /// Starts exporting if the environment names a collector.
    ///
    /// # Errors
    /// [`AppError::Usage`] where the collector's URL can't be used.
    #[cfg(feature = "otlp")]
    pub(crate) fn start(metrics: &Metrics, seed: u64) -> Result<Self, AppError> {
        let Ok(collector) = std::env::var(ENDPOINT) else { return Ok(Self(None)) };
        let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "plu-onboard".to_owned());
        let exporter = crate::adapters::otlp::TraceExporter::start(&collector, service, &metrics.spans, seed)
            .map_err(|why| AppError::Usage(format!("{ENDPOINT} {why}")))?;
        Ok(Self(Some(exporter)))
    }

    /// Warns if the environment names a collector, which this build has no exporter for.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otlp"))]
    pub(crate) fn start(_metrics: &Metrics, _seed: u64) -> Result<Self, AppError> {
        if std::env::var_os(ENDPOINT).is_some() {
            tracing::warn!("{ENDPOINT} is set, but this program was built without the feature otlp: no spans are sent");
        }
        Ok(Self())
    }

    /// Sends the remaining spans.
    #[cfg(feature = "otlp")]
    pub(crate) async fn finish(self) {
        if let Some(exporter) = self.0 {
            exporter.finish().await;
        }
    }

    /// Does nothing.
    #[cfg(not(feature = "otlp"))]
    pub(crate) async fn finish(self) {}
}
