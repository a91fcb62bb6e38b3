//! The first moments in a mesh: until a neighbour's link-state database has been taken over, the
//! nodes of the mesh are not known here, and calls that name them wait.

use std::time::Duration;

use hawser_wire::MonoTime;

use crate::control::Control;
use crate::handle::Answer;
use crate::{OpenStream, OpenedStream};

/// Nobody waits for the map longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls that wait for the map of the mesh.
#[derive(Debug)]
pub(crate) struct Settling {
    deadline: MonoTime,
    /// The join that brought this node here.
    joined: Option<Answer<()>>,
    /// Streams to nodes that are not known yet.
    opens: Vec<(OpenStream, Answer<OpenedStream>)>,
}

impl Settling {
    /// Looks for the destinations again once the map is there.
    pub(crate) fn hold_open(&mut self, request: OpenStream, answer: Answer<OpenedStream>) {
        self.opens.push((request, answer));
    }

    /// When waiting ends, map or not.
    pub(crate) const fn poll_timeout(&self) -> MonoTime {
        self.deadline
    }
}

impl Control {
    /// Waits for the map from now on; `joined` is answered when it is there, or late.
    pub(crate) fn settle(&mut self, joined: Option<Answer<()>>) {
        let deadline = self.now().saturating_add(PATIENCE);
        self.settling = Some(Settling { deadline, joined, opens: Vec::new() });
    }

    /// Ends the waiting if the map is there, if it is late, or if this node takes no part any more.
    pub(crate) fn settle_due(&mut self) {
        let now = self.now();
        let running = self.is_running();
        // Without a path the neighbour has not heard of the link yet, and nothing can be sent.
        let heard = self.flooding.settled().any(|neighbour| self.hops.contains_key(&neighbour));
        let settled = heard && self.has_present_routes();
        let over = |settling: &mut Settling| settled || !running || settling.deadline <= now;
        let Some(settling) = self.settling.take_if(over) else { return };
        if running && !settled {
            for (address, failure) in self.dialler.unreached(&self.links) {
                let failure = if failure.is_empty() { "no answer yet" } else { failure };
                tracing::warn!(address, failure, "no lane yet; this node goes on dialling");
            }
        }
        if let Some(answer) = settling.joined {
            let _caller_gone = answer.send(Ok(()));
        }
        for (request, answer) in settling.opens {
            self.open_stream(request, answer);
        }
    }
}
