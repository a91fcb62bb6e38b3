//! Which way a message went, as the API's messages.

use hawser_plane::{MessageDestinationView, MessageSendingView, MessageState, MessageView};
use hawser_proto::v1;

use crate::route_status::{digest_text, route_node};

pub(crate) fn message_explanation(view: MessageView) -> v1::MessageExplanation {
    let MessageView { stream, name: stream_name, seq, destinations } = view;
    v1::MessageExplanation {
        stream_id: stream.to_string(),
        stream_name,
        seq,
        destinations: destinations.into_iter().map(journey).collect(),
    }
}

fn journey(view: MessageDestinationView) -> v1::MessageJourney {
    let state = match view.state {
        MessageState::Waiting => "waiting",
        MessageState::Sent => "sent",
        MessageState::Received => "received",
    };
    v1::MessageJourney {
        destination: Some(route_node(view.node)),
        state: state.to_owned(),
        sendings: view.sendings.into_iter().map(sending).collect(),
    }
}

fn sending(view: MessageSendingView) -> v1::MessageSending {
    let (rerouted_at, rerouted_unix_us) = view.detour.unzip();
    v1::MessageSending {
        from_unix_us: view.from_unix_us,
        until_unix_us: view.until_unix_us,
        again: view.again,
        path_id: view.path.0,
        generation: view.generation,
        lsdb_digest: digest_text(view.lsdb_digest),
        nodes: view.nodes.into_iter().map(route_node).collect(),
        rerouted_at: rerouted_at.map(route_node),
        rerouted_unix_us,
    }
}
