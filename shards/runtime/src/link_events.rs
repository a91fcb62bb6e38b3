use hawser_exchange::LinkEventReport;
use hawser_link::{LinkEvent, SessionEnd};
use hawser_wire::NodeId;

/// What the control thread is told of an event of the link to `peer`.
pub(crate) fn report_of(peer: NodeId, event: &LinkEvent) -> LinkEventReport {
    let (name, inputs) = match event {
        LinkEvent::LaneUp { id, class, .. } => (
            "lane-up",
            vec![
                ("lane", id.lane.0.to_string()),
                ("epoch", id.epoch.0.to_string()),
                ("dialled", id.dialled.to_string()),
                ("class", class.name().to_owned()),
            ],
        ),
        LinkEvent::LaneDown { id, why, unacked_frames, .. } => (
            "lane-down",
            vec![
                ("lane", id.lane.0.to_string()),
                ("epoch", id.epoch.0.to_string()),
                ("why", why.clone()),
                ("unacked_frames", unacked_frames.to_string()),
            ],
        ),
        LinkEvent::CloseLane { reason, detail, .. } => {
            ("lane-closed", vec![("reason", reason.text().to_owned()), ("detail", detail.clone())])
        }
        LinkEvent::WantLane { lane, class } => {
            ("lane-wanted", vec![("lane", lane.0.to_string()), ("class", class.name().to_owned())])
        }
        LinkEvent::Promoted { class, from, to } => (
            "class-moved",
            vec![
                ("class", class.name().to_owned()),
                ("from", from.0.to_string()),
                ("to", to.0.to_string()),
            ],
        ),
        LinkEvent::Quiet { lane, silent_ticks } => (
            "lane-quiet",
            vec![("lane", lane.0.to_string()), ("silent_ticks", silent_ticks.to_string())],
        ),
        LinkEvent::Heard { lane } => ("lane-heard", vec![("lane", lane.0.to_string())]),
        LinkEvent::Hedged { from, to, frames, bytes, silent_ticks } => (
            "hedged",
            vec![
                ("from", from.0.to_string()),
                ("to", to.0.to_string()),
                ("frames", frames.to_string()),
                ("bytes", bytes.to_string()),
                ("silent_ticks", silent_ticks.to_string()),
            ],
        ),
        LinkEvent::Requeued { from, frames, bytes } => (
            "requeued",
            vec![
                ("from", from.lane.0.to_string()),
                ("epoch", from.epoch.0.to_string()),
                ("frames", frames.to_string()),
                ("bytes", bytes.to_string()),
            ],
        ),
        LinkEvent::StripeGap { channel, sequence, waited } => (
            "stripe-gap",
            vec![
                ("channel", channel.to_string()),
                ("sequence", sequence.to_string()),
                ("waited_ms", waited.as_millis().to_string()),
            ],
        ),
        LinkEvent::Rerouted { frames, bytes, lanes } => (
            "rerouted",
            vec![
                ("frames", frames.to_string()),
                ("bytes", bytes.to_string()),
                ("silent_lanes", lanes.to_string()),
            ],
        ),
        LinkEvent::ModeChanged { mode } => ("mode-changed", vec![("mode", mode.name().to_owned())]),
        LinkEvent::SessionEnded { reason, frames } => (
            "session-ended",
            vec![("reason", end_of(reason)), ("unacked_frames", frames.to_string())],
        ),
    };
    LinkEventReport { peer, name, inputs }
}

/// What it is told of frames from `peer` that it does not get.
pub(crate) fn control_dropped(peer: NodeId, frames: u64) -> LinkEventReport {
    LinkEventReport { peer, name: "control-dropped", inputs: vec![("frames", frames.to_string())] }
}

/// What it is told of events that it is not told.
pub(crate) fn events_untold(peer: NodeId, events: u64) -> LinkEventReport {
    LinkEventReport { peer, name: "events-dropped", inputs: vec![("events", events.to_string())] }
}

fn end_of(reason: &SessionEnd) -> String {
    match reason {
        SessionEnd::OtherLife { was, is } => {
            format!("the peer began life {} after {}", is.0, was.0)
        }
        SessionEnd::NoLane { after } => format!("no lane for {} ms", after.as_millis()),
        SessionEnd::Forgotten { id } => {
            format!("the peer has forgotten epoch {} of lane {}", id.epoch.0, id.lane.0)
        }
        SessionEnd::Unsettled { id } => {
            format!("no final count of epoch {} of lane {}", id.epoch.0, id.lane.0)
        }
        SessionEnd::Flapping => "lanes were lost too often".to_owned(),
    }
}
