//! `config show`: the settings in force as TOML, each with its origin, without secrets.

use std::fmt::Write as _;

use crate::config::Settings;
use crate::config::rules::RULES;

impl Settings {
    /// The settings in force, in the order of `default.toml`, each with where it came from. A password in a URL is
    /// `[redacted]`; of the API key it says only whether there is one. Without a password, the text is a settings
    /// file of the same meaning.
    pub(crate) fn render_redacted(&self) -> String {
        let values = serde_json::to_value(self).unwrap_or_else(|error| unreachable!("settings are plain: {error}"));
        let mut toml = String::new();
        let mut last_section = "";
        for (key, _) in RULES {
            let (section, name) = key.split_once('.').unwrap_or_default();
            if section != last_section {
                let gap = if last_section.is_empty() { "" } else { "\n" };
                let _ = writeln!(toml, "{gap}[{section}]");
                last_section = section;
            }
            // A JSON text, number or list of texts without control characters is the same in TOML.
            let _ = writeln!(toml, "{name} = {} # {}", values[section][name], self.origin(key));
            if *key == "api.key_file" {
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
