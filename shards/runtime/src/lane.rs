use std::net::SocketAddr;
use std::time::Duration;

use hawser_exchange::{LaneHandover, LaneReport};
use hawser_link::{HealthLimits, LaneHealth};
use hawser_session::{LaneSession, MESSAGE_PREFIX, SessionError};
use hawser_wire::{
    BatchWriter, CloseReason, FrameKind, LaneClose, LaneId, LinkEpoch, LinkSequence, MonoTime,
    NodeId, TrafficClass,
};

/// Read buffers start with this much room and double while reads fill them.
const READ_BYTES_MIN: usize = 32 << 10;
const READ_BYTES_MAX: usize = 512 << 10;

/// Echoes and heartbeats are left out while this many bytes of them wait: a peer that asks for
/// them and does not read gets no more.
const OWN_BYTES_MAX: usize = 64 << 10;

/// A closing lane may take this long to say good-bye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) peer: NodeId,
    pub(crate) lane: LaneId,
    pub(crate) class: TrafficClass,
    pub(crate) epoch: LinkEpoch,
    dialled: bool,
    remote: SocketAddr,
    pub(crate) session: LaneSession,
    pub(crate) health: LaneHealth,
    /// A write is in flight.
    pub(crate) writing: bool,
    /// It stands in the queue of lanes that may have something to write.
    pub(crate) wanted: bool,
    /// Room for the next read, in bytes.
    read_room: usize,
    /// Classes that this lane carries at present, first served first.
    pub(crate) carries: Vec<TrafficClass>,
    /// Frames of this very lane: heartbeats and their echoes.
    own: Vec<u8>,
    /// How many wait in `own`.
    own_frames: u64,
    /// Why the lane is closing, and when patience ends.
    pub(crate) closing: Option<(String, MonoTime)>,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_frames: u64,
    pub(crate) received_bytes: u64,
    pub(crate) received_frames: u64,
}

impl Lane {
    /// The lane of a hand-over, whose socket went elsewhere.
    pub(crate) fn new(
        now: MonoTime,
        health: HealthLimits,
        handover: LaneHandover<LaneSession>,
    ) -> Self {
        Self {
            peer: handover.peer,
            lane: handover.lane,
            class: handover.class,
            epoch: handover.epoch,
            dialled: handover.dialled,
            remote: handover.remote,
            session: handover.session,
            health: LaneHealth::new(now, health),
            writing: false,
            wanted: false,
            read_room: READ_BYTES_MIN,
            carries: Vec::new(),
            own: vec![0; MESSAGE_PREFIX],
            own_frames: 0,
            closing: None,
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

    /// A read of `bytes` came back: a full one asks for more room next time.
    pub(crate) fn return_read_buffer(&mut self, buffer: Vec<u8>, bytes: usize) {
        if bytes >= self.read_room {
            self.read_room = self.read_room.saturating_mul(2).min(READ_BYTES_MAX);
        }
        self.received_bytes =
            self.received_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.session.put_read_buffer(buffer);
    }

    /// Queues a frame that must go over this lane and no other; it is left out if too many wait.
    pub(crate) fn push_own(&mut self, kind: FrameKind, body: &[u8]) {
        if self.own.len() > OWN_BYTES_MAX {
            return;
        }
        self.own_frames = self.own_frames.saturating_add(1);
        // Bodies of eight bytes never exceed the bound.
        let _fits = BatchWriter::new(&mut self.own).frame(
            kind,
            TrafficClass::Control,
            LinkSequence(0),
            &[body],
        );
    }

    /// Frames of this lane wait to be sent.
    pub(crate) const fn has_own(&self) -> bool {
        self.own.len() > MESSAGE_PREFIX
    }

    /// Encrypts the lane's own frames.
    pub(crate) fn send_own(&mut self) -> Result<(), SessionError> {
        if self.has_own() {
            let mut own = std::mem::take(&mut self.own);
            let sent = self.session.send_built(&mut own);
            own.truncate(MESSAGE_PREFIX);
            self.own = own;
            sent?;
            self.sent_frames =
                self.sent_frames.saturating_add(std::mem::take(&mut self.own_frames));
        }
        Ok(())
    }

    /// Says good-bye and why; nothing else is sent any more.
    pub(crate) fn start_close(&mut self, now: MonoTime, reason: CloseReason, detail: &str) {
        if self.closing.is_some() {
            return;
        }
        let mut body = Vec::new();
        LaneClose { reason, detail: detail.to_owned() }.encode(&mut body);
        // Echoes are worth nothing any more, and must not be in the way.
        self.own.truncate(MESSAGE_PREFIX);
        self.own_frames = 0;
        self.push_own(FrameKind::Close, &body);
        // A connection that cannot say good-bye is closed without it.
        let _cannot = self.send_own();
        self.session.send_close();
        let why = if detail.is_empty() {
            reason.text().to_owned()
        } else {
            format!("{}: {detail}", reason.text())
        };
        self.closing = Some((why, now.saturating_add(CLOSE_WITHIN)));
    }

    pub(crate) fn report(&self) -> LaneReport {
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
            rtt: self.health.srtt(),
        }
    }
}
