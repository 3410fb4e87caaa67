//! `docs/configuration.md` lists every setting as `config/default.toml` does: key, default, allowed values, purpose.
//!
//! The part of the document after [`MARK`] is generated:
//! `UPDATE_DOCS=1 cargo test --all-features --test it configuration_doc` writes it.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The line after which the document is generated.
const MARK: &str = "## All settings\n";

/// Set to any value, it makes the test write the document.
const UPDATE: &str = "UPDATE_DOCS";

/// One setting of `default.toml`.
#[derive(Debug, Default, PartialEq)]
struct SettingDoc {
    section: String,
    key: String,
    /// The value as written in TOML.
    default: String,
    allowed: String,
    purpose: String,
    is_everyday: bool,
}

/// The settings of a file like `default.toml`, in its order. The comment above a key is its documentation.
fn settings(toml: &str) -> Vec<SettingDoc> {
    let (mut settings, mut section, mut comment) = (Vec::new(), String::new(), Vec::new());
    for line in toml.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, default)) = line.split_once(" = ") {
            settings.push(setting(&section, key, default, &comment.join(" ")));
        }
        if !line.starts_with('#') {
            comment.clear();
        }
    }
    settings
}

fn setting(section: &str, key: &str, default: &str, comment: &str) -> SettingDoc {
    let (purpose, allowed) = comment.split_once("Allowed: ").unwrap_or((comment, ""));
    let everyday = purpose.strip_prefix("Everyday. ");
    SettingDoc {
        section: section.to_owned(),
        key: key.to_owned(),
        default: default.to_owned(),
        allowed: allowed.trim().trim_end_matches('.').to_owned(),
        purpose: everyday.unwrap_or(purpose).trim().to_owned(),
        is_everyday: everyday.is_some(),
    }
}

fn settings_count(toml: &str) -> usize {
    fn count(value: config::Value) -> usize {
        value.into_table().map_or(1, |table| table.into_values().map(count).sum())
    }
    let file = config::File::from_str(toml, config::FileFormat::Toml);
    let parsed = config::Config::builder().add_source(file).build().unwrap();
    parsed.cache.into_table().unwrap().into_values().map(count).sum()
}

/// One table for each section. The keys of everyday settings are bold.
fn tables(settings: &[SettingDoc]) -> String {
    let (mut text, mut section) = (String::new(), "");
    for setting in settings {
        if setting.section != section {
            section = &setting.section;
            text += &format!(
                "\n### `[{section}]`\n\n| key | default | allowed | what it does |\n| --- | --- | --- | --- |\n"
            );
        }
        let bold = if setting.is_everyday { "**" } else { "" };
        let SettingDoc { key, default, allowed, purpose, .. } = setting;
        text += &format!("| {bold}`{key}`{bold} | `{}` | {} | {} |\n", cell(default), cell(allowed), cell(purpose));
    }
    text
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_configuration_document_lists_every_setting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path: PathBuf = root.join("docs/configuration.md");
    let document = fs::read_to_string(&path).unwrap();
    let toml = fs::read_to_string(root.join("config/default.toml")).unwrap();
    let settings = settings(&toml);
    assert_eq!(settings.len(), settings_count(&toml), "not every setting was found");
    for SettingDoc { section, key, allowed, purpose, .. } in &settings {
        assert!(!allowed.is_empty() && !purpose.is_empty(), "{section}.{key} has no documentation");
    }
    let (introduction, _) = document.split_once(MARK).unwrap_or_else(|| panic!("{} has no {MARK:?}", path.display()));
    let expected = format!("{introduction}{MARK}{}", tables(&settings));
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        document == expected,
        "{} differs from config/default.toml: run {UPDATE}=1 cargo test --all-features --test it configuration_doc",
        path.display()
    );
}

#[test]
fn a_setting_is_read_with_its_comment() {
    let toml = "# About the file.\n\n[a]\n# Everyday. Does this\n# or that.\n# Allowed: x | y.\nb = \"x\"\n\nc = 1\n";
    let read = settings(toml);
    let b = SettingDoc {
        section: "a".to_owned(),
        key: "b".to_owned(),
        default: "\"x\"".to_owned(),
        allowed: "x | y".to_owned(),
        purpose: "Does this or that.".to_owned(),
        is_everyday: true,
    };
    assert_eq!(read[0], b);
    assert_eq!((read[1].key.as_str(), read[1].purpose.as_str()), ("c", ""));
    let table = tables(&read);
    assert!(table.contains("| **`b`** | `\"x\"` | x \\| y | Does this or that. |\n| `c` | `1` |"), "{table}");
}
