//! Where spans go: to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, if the program was built with the feature
//! `otlp`.

use crate::app::console::error::AppError;
use crate::telemetry::Metrics;

/// OpenTelemetry's own variables, so that operators set them as for everything else.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The exporter of spans, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Traces(#[cfg(feature = "otlp")] Option<crate::adapters::otlp::Exporter>);

impl Traces {
    /// Starts exporting where the environment asks for it.
    ///
    /// # Errors
    /// [`AppError::Usage`] where the collector's URL can't be used.
    #[cfg(feature = "otlp")]
    pub(crate) fn start(metrics: &Metrics, seed: u64) -> Result<Self, AppError> {
        let Ok(collector) = std::env::var(ENDPOINT) else { return Ok(Self(None)) };
        let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "plu-onboard".to_owned());
        let exporter = crate::adapters::otlp::Exporter::start(&collector, service, &metrics.spans, seed)
            .map_err(|why| AppError::Usage(format!("{ENDPOINT} {why}")))?;
        Ok(Self(Some(exporter)))
    }

    /// Says so where the environment asks for what this build doesn't have.
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

    /// Sends what is left.
    #[cfg(feature = "otlp")]
    pub(crate) async fn finish(self) {
        if let Some(exporter) = self.0 {
            exporter.finish().await;
        }
    }

    /// Nothing is left.
    #[cfg(not(feature = "otlp"))]
    pub(crate) async fn finish(self) {}
}
