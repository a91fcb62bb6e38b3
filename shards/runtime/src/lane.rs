use std::net::SocketAddr;
use std::time::Duration;

use hawser_exchange::{LaneHandover, LaneReport, LaneSerial};
use hawser_session::LaneSession;
use hawser_wire::{
    BatchWriter, CloseReason, FrameKind, LaneClose, LaneId, LinkEpoch, LinkSequence, MonoTime,
    NodeId, TrafficClass,
};

use crate::read_pace::ReadPace;

/// Read buffers start with this much room and double while reads fill them.
const READ_BYTES_MIN: usize = 32 << 10;
const READ_BYTES_MAX: usize = 512 << 10;

/// A closing lane may take this long to say good-bye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) peer: NodeId,
    pub(crate) lane: LaneId,
    pub(crate) class: TrafficClass,
    /// What the control thread calls it.
    pub(crate) serial: LaneSerial,
    epoch: LinkEpoch,
    dialled: bool,
    remote: SocketAddr,
    pub(crate) session: LaneSession,
    /// A write is in flight.
    pub(crate) writing: bool,
    /// It stands in the queue of lanes that may have something to write.
    pub(crate) wanted: bool,
    /// Room for the next read, in bytes.
    read_room: usize,
    read_pace: ReadPace,
    /// Why the lane is closing, and when patience ends.
    pub(crate) closing: Option<(String, MonoTime)>,
    /// The same, for the control thread.
    pub(crate) closed: Option<CloseReason>,
    /// The good-bye is written, and nothing follows it.
    pub(crate) finished: bool,
    /// Why the peer has closed it.
    pub(crate) told: Option<CloseReason>,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_frames: u64,
    pub(crate) received_bytes: u64,
    pub(crate) received_frames: u64,
}

impl Lane {
    /// The lane of a hand-over, whose socket went elsewhere.
    pub(crate) fn new(serial: LaneSerial, handover: LaneHandover<LaneSession>) -> Self {
        Self {
            peer: handover.peer,
            lane: handover.lane,
            class: handover.class,
            serial,
            epoch: handover.epoch,
            dialled: handover.dialled,
            remote: handover.remote,
            session: handover.session,
            writing: false,
            wanted: false,
            read_room: READ_BYTES_MIN,
            read_pace: ReadPace::default(),
            closing: None,
            finished: false,
            closed: None,
            told: None,
            sent_bytes: 0,
            sent_frames: 0,
            received_bytes: 0,
            received_frames: 0,
        }
    }

    /// The buffer for the next read, with what is left of the last one in front.
    pub(crate) fn lend_read_buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.session.take_read_buffer();
        buffer.reserve(self.read_room);
        buffer
    }

    /// The next read is of no use before so many bytes are there.
    pub(crate) fn awaited_bytes(&mut self) -> usize {
        self.read_pace.awaited_bytes(self.session.missing_bytes())
    }

    /// As [`ReadPace::handle_silence`].
    pub(crate) const fn handle_silence(&mut self) -> bool {
        self.read_pace.handle_silence()
    }

    /// A read of `bytes` came back: a full one asks for more room next time.
    pub(crate) fn return_read_buffer(&mut self, now: MonoTime, buffer: Vec<u8>, bytes: usize) {
        self.read_pace.handle_read(now, bytes);
        if bytes >= self.read_room {
            self.read_room = self.read_room.saturating_mul(2).min(READ_BYTES_MAX);
        }
        self.received_bytes =
            self.received_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.session.put_read_buffer(buffer);
    }

    /// Says good-bye and why; nothing else is sent any more. When patience ends.
    pub(crate) fn start_close(
        &mut self,
        now: MonoTime,
        reason: CloseReason,
        detail: &str,
    ) -> MonoTime {
        if let Some((_, until)) = self.closing {
            return until;
        }
        let mut body = Vec::new();
        LaneClose { reason, detail: detail.to_owned() }.encode(&mut body);
        let mut message = Vec::new();
        let (kind, class) = (FrameKind::Close, TrafficClass::Control);
        // A connection that cannot say good-bye is closed without it.
        let _cannot = BatchWriter::new(&mut message)
            .frame(kind, class, LinkSequence(0), &[&body])
            .map(|()| self.session.send_message(&message));
        self.session.send_close();
        let why = closing_text(reason, detail);
        let until = now.saturating_add(CLOSE_WITHIN);
        self.closing = Some((why, until));
        self.closed = Some(reason);
        until
    }

    /// `rtt` as the link has measured it.
    pub(crate) fn report(&self, rtt: Duration) -> LaneReport {
        LaneReport {
            peer: self.peer,
            lane: self.lane,
            class: self.class,
            epoch: self.epoch,
            dialled: self.dialled,
            remote: self.remote,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            sent_frames: self.sent_frames,
            received_frames: self.received_frames,
            rtt,
        }
    }
}

/// Why a lane is closed, for people.
pub(crate) fn closing_text(reason: CloseReason, detail: &str) -> String {
    if detail.is_empty() {
        reason.text().to_owned()
    } else {
        format!("{}: {detail}", reason.text())
    }
}
