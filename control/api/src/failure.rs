use hawser_exchange::Refusal;
use hawser_wire::StreamId;
use tonic::{Code, Status};

/// Why a session is over before its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CallFailure {
    /// The shard refused.
    Refused(Refusal),
    /// The shard that hosts the stream is gone.
    ShardGone,
    /// As many calls are open on this API thread as it takes.
    TooManyCalls { max: usize },
    /// The subscriber let more records pile up than are kept for it.
    TooSlow { records_max: usize },
    /// The node stops.
    Stopping,
}

impl CallFailure {
    /// What the client is told: what, where, what to do.
    pub(crate) fn status(&self, stream: StreamId) -> Status {
        match self {
            Self::Refused(refusal) => refusal_status(refusal, stream),
            Self::ShardGone => Status::unavailable(format!(
                "stream {stream}: the shard that hosts it has stopped; the node is restarting"
            )),
            Self::TooManyCalls { max } => Status::resource_exhausted(format!(
                "{max} calls are open at this node, which is the most it takes: end some, or send \
                 batches over fewer calls"
            )),
            Self::TooSlow { records_max } => Status::resource_exhausted(format!(
                "stream {stream}: {records_max} records wait for this subscriber: subscribe again \
                 and read faster; nothing is lost"
            )),
            Self::Stopping => stopping(),
        }
    }
}

/// Said to every call that is open when the node stops.
pub(crate) fn stopping() -> Status {
    Status::unavailable("the node is stopping: call again when it is back")
}

fn refusal_status(refusal: &Refusal, stream: StreamId) -> Status {
    let (code, what) = match refusal {
        Refusal::UnknownStream => (
            Code::NotFound,
            "this node does not host it in that role: publish at its source, subscribe at its \
             destinations"
                .to_owned(),
        ),
        Refusal::StreamClosed => {
            (Code::FailedPrecondition, "it is closed and takes nothing more".to_owned())
        }
        Refusal::SequenceGap { expected_seq, got_seq } => {
            (Code::FailedPrecondition, gap(*expected_seq, *got_seq))
        }
        Refusal::OutOfRange { floor } => {
            let floor = floor.0.saturating_add(1);
            (
                Code::OutOfRange,
                format!(
                    "messages below sequence {floor} are gone: subscribe from {floor} or later"
                ),
            )
        }
        Refusal::CommitAhead { end } => (
            Code::FailedPrecondition,
            format!(
                "the consumer was given messages up to sequence {} only: commit nothing behind it",
                end.0
            ),
        ),
        Refusal::TooMany { what, max } => (
            Code::ResourceExhausted,
            format!("it has {max} {what}, which is the most it takes: use one of them again"),
        ),
        Refusal::StreamRefused { node, reason } => (
            Code::FailedPrecondition,
            format!(
                "refused between here and {node}: {}; see `events watch`, and start the node that \
                 is at fault again",
                reason.text()
            ),
        ),
        Refusal::TakenOver => (
            Code::Aborted,
            "a newer call of the same producer or consumer took over: use another name to run \
             beside it"
                .to_owned(),
        ),
        Refusal::ShuttingDown => return stopping(),
    };
    Status::new(code, format!("stream {stream}: {what}"))
}

/// Said of a sequence that does not follow the last one.
pub(crate) fn gap(expected_seq: u64, got_seq: u64) -> String {
    format!("sequence gap: expected {expected_seq}, got {got_seq}; publish {expected_seq} first")
}

#[cfg(test)]
mod tests {
    use hawser_wire::StreamOffset;

    use super::*;

    fn check(refusal: Refusal, code: Code, words: &[&str]) {
        let stream = StreamId::from_bytes([7; 16]);
        let status = CallFailure::Refused(refusal).status(stream);
        assert_eq!(status.code(), code, "{status}");
        for word in words {
            assert!(status.message().contains(word), "{word:?} in {:?}", status.message());
        }
    }

    #[test]
    fn messages_carry_the_numbers() {
        let id = StreamId::from_bytes([7; 16]).to_string();
        check(
            Refusal::SequenceGap { expected_seq: 5, got_seq: 9 },
            Code::FailedPrecondition,
            &[&id, "expected 5", "got 9"],
        );
        // Offsets count from 0, sequences from 1.
        check(Refusal::OutOfRange { floor: StreamOffset(41) }, Code::OutOfRange, &[&id, "from 42"]);
        check(
            Refusal::CommitAhead { end: StreamOffset(10) },
            Code::FailedPrecondition,
            &["sequence 10"],
        );
        check(Refusal::TakenOver, Code::Aborted, &[&id]);
        check(Refusal::UnknownStream, Code::NotFound, &[&id]);
        check(Refusal::ShuttingDown, Code::Unavailable, &[]);
    }
}
