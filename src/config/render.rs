//! `config show`: the settings in force as TOML, each with its origin and without secrets.

use std::fmt::Write as _;

use crate::config::Settings;
use crate::config::rules::RULES;

impl Settings {
    /// The settings in force, in the order of `default.toml`. A comment after each value names its origin, and marks
    /// the everyday settings. A password in a URL is `[redacted]`; of the API key, the text states only whether it is
    /// set. Without a password, the text is a settings file with the same values.
    pub(crate) fn render_redacted(&self) -> String {
        let values = serde_json::to_value(self).unwrap_or_else(|error| unreachable!("settings are plain: {error}"));
        let mut toml = String::from(
            "# The settings in force, each with its origin. The settings that most users set are marked (everyday).\n",
        );
        let mut last_section = "";
        for rule in RULES {
            let (section, name) = rule.key.split_once('.').unwrap_or_default();
            if section != last_section {
                let _ = writeln!(toml, "\n[{section}]");
                last_section = section;
            }
            let mark = if rule.is_everyday { " (everyday)" } else { "" };
            // A JSON text, number or list of texts without control characters is the same in TOML.
            let _ = writeln!(toml, "{name} = {} # {}{mark}", values[section][name], self.origin(rule.key));
            if rule.key == "api.key_file" {
                let _ = writeln!(toml, "# API key: {}", self.api_key_state());
            }
        }
        toml
    }

    fn api_key_state(&self) -> &'static str {
        if !self.api.key_file.as_os_str().is_empty() {
            "in key_file"
        } else if self.api_key_variable.is_some() {
            "set (PLU_API_KEY)"
        } else {
            "not set"
        }
    }
}
