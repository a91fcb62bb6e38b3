//! `hawser events`.

use clap::Subcommand;
use hawser_proto::v1::{Filter, MeshEvent};
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::{Output, time_text};
use super::table::clean;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Show what happens in the mesh from now on, as this node sees it: one event a line.
    Watch {
        /// Only events of this kind, for example `link_down`; can be repeated.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        /// End after this many events.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
}

#[derive(Serialize)]
struct EventRow<'a> {
    seq: u64,
    unix_us: u64,
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_id: &'a str,
    detail: &'a str,
}

impl<'a> From<&'a MeshEvent> for EventRow<'a> {
    fn from(event: &'a MeshEvent) -> Self {
        let MeshEvent { seq, kind, node_id, detail, unix_us } = event;
        Self { seq: *seq, unix_us: *unix_us, kind, node_id, detail }
    }
}

fn event_text(event: &MeshEvent) -> String {
    // The longest kind has as many letters, so that what follows lines up.
    let (time, kind, detail) = (time_text(event.unix_us), &event.kind, clean(&event.detail));
    format!("{time}  {kind:<14}  {detail}\n")
}

/// # Errors
/// Whatever the node answers; it ends the call when it stops, or if this command reads too slowly.
pub(crate) async fn run(
    command: EventsCommand,
    target: Target,
    out: Output,
) -> Result<(), Failure> {
    let EventsCommand::Watch { kind: kinds, count } = command;
    let mut events = target.mesh().await?.watch_mesh_events(Filter { kinds }).await?.into_inner();
    let mut seen = 0;
    while count.is_none_or(|count| seen < count)
        && let Some(event) = events.message().await?
    {
        out.value(&EventRow::from(&event), || event_text(&event))?;
        seen += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_and_hides_no_control_characters() {
        let event = MeshEvent {
            seq: 7,
            kind: "link_down".into(),
            node_id: "id".into(),
            detail: "link to b:\n\x1b[31mclosed".into(),
            unix_us: 1_700_000_000_123_456,
        };
        let text = event_text(&event);
        assert!(
            text.starts_with("2023-11-14T22:13:20.123Z  link_down       link to b"),
            "{text:?}"
        );
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
        let row = serde_json::to_value(EventRow::from(&event)).unwrap();
        assert_eq!(row["kind"], "link_down");
    }
}
