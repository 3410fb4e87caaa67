//! The status page: one document that needs nothing else. It is filled in the browser, from the status that comes with
//! it and from the events that follow; without scripts it shows the numbers of the moment.

use std::fmt::Write;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::telemetry::status::Snapshot;

const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The document with everything but the numbers.
pub(crate) struct Page {
    /// Before the numbers for those without scripts, before the status, and after it.
    parts: [String; 3],
    policy: String,
}

impl Page {
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

    pub(crate) fn show(&self, now: &Snapshot) -> Response {
        // In a script element only "<" can begin anything else than data.
        let status = serde_json::to_string(now).unwrap_or_default().replace('<', "\\u003c");
        let [before, between, after] = &self.parts;
        let document = [before, plain(now).as_str(), between, &status, after].concat();
        let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, &self.policy)];
        (headers, document).into_response()
    }
}

/// What the policy allows: this text and no other.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// The numbers of the moment, for browsers without scripts.
fn plain(now: &Snapshot) -> String {
    let mut lines = vec![now.standing.message.clone()];
    lines.extend(now.standing.advice.clone());
    let ended = &now.ended;
    lines.push(format!(
        "{} created, {} existing, {} rejected, {} failed since {}",
        ended.created, ended.existing, ended.rejected, ended.failed, now.started
    ));
    lines.push(format!("{:.1} jobs and {:.1} requests in a second", now.jobs_per_second, now.rate.used_per_second));
    if let Some(queue) = &now.queue {
        let waiting = queue.signup + queue.bulk;
        lines.push(format!("{waiting} jobs wait, {} are put off, {} are dead letters", queue.delayed, queue.dead));
    }
    lines.iter().fold(String::new(), |mut html, line| {
        // Writing to a string doesn't fail.
        let _ = write!(html, "<p>{}</p>", escaped(line));
        html
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_refers_to_nothing_elsewhere() {
        let page = Page::new();
        let whole = page.parts.concat();
        assert!(page.parts.iter().all(|part| part.len() > 10), "a place for the numbers is missing");
        assert!(!whole.contains("{{"), "a placeholder is left");
        for word in ["http:", "https:", "//cdn", "@import", "url(h", "url(/", " src=", "innerHTML", "style=\""] {
            let found = whole.find(word).map(|at| &whole[at..(at + 60).min(whole.len())]);
            // The namespace of SVG is a name, not an address.
            assert!(found.is_none_or(|found| found.contains("www.w3.org/2000/svg")), "{found:?}");
        }
    }

    #[test]
    fn no_text_can_leave_its_place() {
        assert_eq!(escaped("<b> & co"), "&lt;b&gt; &amp; co");
    }
}
