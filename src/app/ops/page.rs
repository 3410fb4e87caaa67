//! The status page: one HTML document that loads nothing else. A script fills it from the status embedded in it and
//! from the events that follow; without scripts it shows the current numbers as text.

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::html;
use sha2::{Digest, Sha256};

use crate::telemetry::status::StatusSnapshot;

const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The document without the status.
pub(super) struct StatusPage {
    /// The parts before the text for browsers without scripts, before the embedded status, and after it.
    parts: [String; 3],
    policy: String,
}

impl StatusPage {
    pub(crate) fn new() -> Self {
        let document = DOCUMENT.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        let mut parts = document.splitn(3, "{{now}}").map(str::to_owned);
        let parts = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        );
        Self { parts, policy }
    }

    pub(crate) fn respond(&self, now: &StatusSnapshot) -> Response {
        // Within a script element only "<" can begin markup.
        let status = serde_json::to_string(now).unwrap_or_default().replace('<', "\\u003c");
        let [before, between, after] = &self.parts;
        let document = [before, plain(now).as_str(), between, &status, after].concat();
        let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, &self.policy)];
        (headers, document).into_response()
    }
}

/// The hash of a script or style that the content security policy allows.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// The current numbers as text, for browsers without scripts.
fn plain(now: &StatusSnapshot) -> String {
    let mut lines = vec![now.status.message.clone()];
    lines.extend(now.status.advice.clone());
    lines.extend(now.status.warning.clone());
    let ended = &now.ended;
    lines.push(format!(
        "{} created, {} existing, {} rejected, {} failed since {}",
        ended.created, ended.existing, ended.rejected, ended.failed, now.started
    ));
    lines.push(format!("{:.1} jobs and {:.1} requests a second", now.jobs_per_second, now.rate.used_per_second));
    if let Some(queue) = &now.queue {
        let waiting = queue.signup + queue.bulk;
        lines.push(format!(
            "{waiting} jobs are ready, {} wait for a delayed retry, {} are dead letters",
            queue.delayed, queue.dead
        ));
    }
    paragraphs(&lines)
}

fn paragraphs(lines: &[String]) -> String {
    html! { @for line in lines { p { (line) } } }.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_no_placeholder_left_and_loads_nothing() {
        let page = StatusPage::new();
        let whole = page.parts.concat();
        assert!(page.parts.iter().all(|part| part.len() > 10), "a placeholder is missing");
        assert!(!whole.contains("{{"), "a placeholder is left");
        for word in ["http:", "https:", "//cdn", "@import", "url(h", "url(/", " src=", "innerHTML", "style=\""] {
            let found = whole.find(word).map(|at| &whole[at..(at + 60).min(whole.len())]);
            // The SVG namespace is a name that is not loaded.
            assert!(found.is_none_or(|found| found.contains("www.w3.org/2000/svg")), "{found:?}");
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(paragraphs(&["<b> & co".to_owned()]), "<p>&lt;b&gt; &amp; co</p>");
    }
}
