//! `hawser config`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use super::table::{Align, Table};
use crate::daemon::config::key::{Applies, KEYS, Key};
use crate::daemon::config::peers::PEER_KEYS;
use crate::daemon::config::settings::Settings;
use crate::daemon::config::{Config, default_file};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration and show what holds and where it comes from.
    Check {
        /// Configuration file [default: $HAWSER_CONFIG, else /etc/hawser/hawser.toml for root and
        /// ~/.config/hawser/hawser.toml for others, if it exists]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List every key with its default, what it means and when a change applies.
    Keys,
}

#[derive(Serialize)]
struct CheckRow {
    ok: bool,
    file: Option<String>,
    keys: Vec<ValueRow>,
}

#[derive(Serialize)]
struct ValueRow {
    key: Cow<'static, str>,
    value: Option<String>,
    from: String,
    applies: &'static str,
}

#[derive(Serialize)]
struct KeyRow {
    key: &'static str,
    default: &'static str,
    /// None for those of one entry of a list, which only files have.
    variable: Option<String>,
    applies: &'static str,
    doc: &'static str,
}

/// # Errors
/// Everything that is wrong with the configuration.
pub(crate) fn run(
    command: ConfigCommand,
    data_dir: Option<&Path>,
    out: Output,
) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { config } => {
            let file = config.or_else(default_file);
            let mut settings = Settings::load(file.as_deref(), std::env::vars_os())?;
            if let Some(directory) = data_dir {
                settings.set("--data-dir", "node.data_dir", &directory.to_string_lossy());
            }
            Config::from_settings(settings.clone())?;
            let keys = KEYS.iter().map(|key| {
                let (value, origin) = settings.value(key.name);
                ValueRow {
                    key: key.name.into(),
                    value: value.map(|value| value.to_string()),
                    from: origin.to_string(),
                    applies: key.applies.text(),
                }
            });
            let peers = settings.peers.rows().map(|(key, value, origin)| ValueRow {
                key: key.into(),
                value: Some(value.to_string()),
                from: origin.to_string(),
                applies: Applies::Restart.text(),
            });
            let row = CheckRow {
                ok: true,
                file: file.map(|path| path.display().to_string()),
                keys: keys.chain(peers).collect(),
            };
            out.value(&row, || check_text(&row))
        }
        ConfigCommand::Keys => {
            let row = |key: &'static Key, variable| KeyRow {
                key: key.name,
                default: key.default,
                variable,
                applies: key.applies.text(),
                doc: key.doc,
            };
            let keys = KEYS.iter().map(|key| row(key, Some(key.variable())));
            let rows: Vec<KeyRow> =
                keys.chain(PEER_KEYS.iter().map(|key| row(key, None))).collect();
            out.rows(&rows, || {
                let columns = [
                    ("KEY", Align::Left),
                    ("DEFAULT", Align::Left),
                    ("APPLIES", Align::Left),
                    ("MEANING", Align::Left),
                ];
                let mut table = Table::new(&columns, "");
                for row in &rows {
                    let default = if row.default.is_empty() { "-" } else { row.default };
                    table.row([row.key, default, row.applies, row.doc]);
                }
                table
            })
        }
    }
}

fn check_text(row: &CheckRow) -> String {
    let columns = [
        ("KEY", Align::Left),
        ("VALUE", Align::Left),
        ("FROM", Align::Left),
        ("APPLIES", Align::Left),
    ];
    let mut table = Table::new(&columns, "");
    for key in &row.keys {
        let value = key.value.as_deref().unwrap_or("-");
        table.row([&key.key, value, &key.from, key.applies]);
    }
    let file = row.file.as_deref().map_or_else(|| "no file".to_owned(), str::to_owned);
    format!("{table}\n{file}: the configuration is good\n")
}
