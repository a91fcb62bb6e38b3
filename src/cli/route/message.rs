//! `hawser route explain --message`: which way a message went.

use hawser_proto::v1::{ExplainMessageReq, MessageExplanation, MessageJourney, MessageSending};
use serde::Serialize;

use super::shown;
use crate::cli::client::Target;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, time_text};
use crate::cli::table::{Align, Table};

/// A message, as `STREAM:SEQ`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct MessageName {
    stream: String,
    seq: u64,
}

impl MessageName {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (stream, seq) =
            text.rsplit_once(':').filter(|(stream, _)| !stream.is_empty()).ok_or_else(|| {
                "a stream and a sequence with a colon between, as in orders:42".to_owned()
            })?;
        let seq = seq.parse().ok().filter(|&seq| seq > 0);
        let seq = seq.ok_or("the sequence is a number from 1 on")?;
        Ok(Self { stream: stream.to_owned(), seq })
    }
}

#[derive(Serialize)]
struct MessageRow<'a> {
    stream_id: &'a str,
    stream: &'a str,
    seq: u64,
    destinations: Vec<JourneyRow<'a>>,
}

#[derive(Serialize)]
struct JourneyRow<'a> {
    destination: &'a str,
    state: &'a str,
    sendings: Vec<SendingRow<'a>>,
}

#[derive(Serialize)]
struct SendingRow<'a> {
    from_unix_us: u64,
    until_unix_us: u64,
    again: bool,
    path_id: u32,
    generation: u64,
    lsdb_digest: &'a str,
    nodes: Vec<&'a str>,
    /// None if it is not known to have been sent another way.
    rerouted_at: Option<&'a str>,
    rerouted_unix_us: Option<u64>,
}

impl<'a> From<&'a MessageSending> for SendingRow<'a> {
    fn from(sending: &'a MessageSending) -> Self {
        Self {
            from_unix_us: sending.from_unix_us,
            until_unix_us: sending.until_unix_us,
            again: sending.again,
            path_id: sending.path_id,
            generation: sending.generation,
            lsdb_digest: &sending.lsdb_digest,
            nodes: sending.nodes.iter().map(shown).collect(),
            rerouted_at: sending.rerouted_at.as_ref().map(shown),
            rerouted_unix_us: sending.rerouted_unix_us,
        }
    }
}

impl SendingRow<'_> {
    /// What there is to say of it, for people.
    fn note(&self) -> String {
        let again = self.again.then(|| "sent again".to_owned());
        let rerouted = self.rerouted_at.map(|node| format!("{node} took another way"));
        again.into_iter().chain(rerouted).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> From<&'a MessageJourney> for JourneyRow<'a> {
    fn from(journey: &'a MessageJourney) -> Self {
        Self {
            destination: journey.destination.as_ref().map_or("", shown),
            state: &journey.state,
            sendings: journey.sendings.iter().map(SendingRow::from).collect(),
        }
    }
}

/// # Errors
/// Whatever the node answers: that stream or message are not there, or that it is forgotten.
pub(super) async fn run(name: MessageName, target: Target, out: Output) -> Result<(), Failure> {
    let request = ExplainMessageReq { stream_id: name.stream, seq: name.seq };
    let found = target.mesh().await?.explain_message(request).await?.into_inner();
    let MessageExplanation { ref stream_id, ref stream_name, seq, ref destinations } = found;
    let row = MessageRow {
        stream_id,
        stream: stream_name,
        seq,
        destinations: destinations.iter().map(JourneyRow::from).collect(),
    };
    out.value(&row, || text_of(&row))
}

fn text_of(row: &MessageRow<'_>) -> String {
    let columns = [
        ("DESTINATION", Align::Left),
        ("STATE", Align::Left),
        ("SENT", Align::Left),
        ("PATH", Align::Right),
        ("ROUTES", Align::Right),
        ("LINK STATE", Align::Left),
        ("NODES", Align::Left),
        ("NOTE", Align::Left),
    ];
    let mut table = Table::new(&columns, "no destinations");
    for JourneyRow { destination, state, sendings } in &row.destinations {
        let ends = || [(*destination).to_owned(), (*state).to_owned()];
        for sending in sendings {
            let cells = [
                time_text(sending.from_unix_us),
                sending.path_id.to_string(),
                sending.generation.to_string(),
                sending.lsdb_digest.to_owned(),
                sending.nodes.join(" "),
                sending.note(),
            ];
            table.row(ends().into_iter().chain(cells));
        }
        if sendings.is_empty() {
            table.row(ends().into_iter().chain([const { "-" }; 6].map(str::to_owned)));
        }
    }
    format!("stream {} ({}), message {}\n\n{table}", row.stream, row.stream_id, row.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_by_stream_and_sequence() {
        let parsed = |text| MessageName::parse(text).map(|name| (name.stream, name.seq));
        assert_eq!(parsed("orders:42"), Ok(("orders".to_owned(), 42)));
        assert_eq!(parsed("a:b:7"), Ok(("a:b".to_owned(), 7)));
        for wrong in ["orders", ":4", "orders:", "orders:0", "orders:-1", "orders:x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
