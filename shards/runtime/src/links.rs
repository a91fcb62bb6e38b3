use std::collections::{BTreeMap, VecDeque};

use hawser_exchange::{LaneHandover, LinkReport};
use hawser_link::{
    EgressFull, EgressLimits, EgressQueue, HealthAction, HealthLimits, Origin, lane_for,
};
use hawser_session::{LaneSession, MESSAGE_PREFIX};
use hawser_wire::{
    CloseReason, FrameKind, Heartbeat, LaneId, LinkEpoch, MonoTime, NodeId, TrafficClass,
};

use crate::io::{LaneKey, ShardIo};
use crate::lane::Lane;

/// Frames are gathered into batches of this many bytes: what control may wait behind.
const BATCH_BYTES: usize = 128 << 10;
/// Ciphertext handed to one write.
const WRITE_BYTES: usize = 256 << 10;
/// Own streams stop filling a queue at this many bytes: enough for the next write.
const SEND_AHEAD_BYTES: usize = 256 << 10;
/// Control frames that may wait for one neighbour.
const CONTROL_BYTES_MAX: usize = 8 << 20;

/// What a neighbour's lanes share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) egress: EgressQueue,
    lanes: Vec<LaneKey>,
    dropped_frames: u64,
    /// Of lanes that are gone.
    sent_bytes: u64,
    received_bytes: u64,
}

/// A lane that came or went, for the control thread.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    Up { peer: NodeId, lane: LaneId, epoch: LinkEpoch },
    Down { peer: NodeId, lane: LaneId, epoch: LinkEpoch, reason: String },
}

/// The links of this shard and their lanes.
#[derive(Debug)]
pub(crate) struct Links<I> {
    pub(crate) io: I,
    health: HealthLimits,
    egress_limits: EgressLimits,
    links: BTreeMap<NodeId, Link>,
    lanes: BTreeMap<LaneKey, Lane>,
    next_key: u64,
    /// Lanes that may have something to write, each once: those whose `wanted` is set.
    wanting: VecDeque<LaneKey>,
    events: VecDeque<LaneEvent>,
}

impl<I: ShardIo> Links<I> {
    pub(crate) const fn new(io: I, health: HealthLimits, relay_queue_bytes: usize) -> Self {
        Self {
            io,
            health,
            egress_limits: EgressLimits {
                batch_bytes: BATCH_BYTES,
                prefix_bytes: MESSAGE_PREFIX,
                control_bytes_max: CONTROL_BYTES_MAX,
                data_bytes_max: relay_queue_bytes,
            },
            links: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_key: 1,
            wanting: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<LaneEvent> {
        self.events.pop_front()
    }

    pub(crate) fn lane_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    pub(crate) fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Takes a lane whose handshakes are done.
    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        mut handover: LaneHandover<LaneSession>,
    ) -> LaneKey {
        let key = LaneKey(self.next_key);
        self.next_key += 1;
        let (peer, lane, epoch) = (handover.peer, handover.lane, handover.epoch);
        let older: Vec<LaneKey> = self
            .lanes
            .iter()
            .filter(|(_, l)| l.peer == peer && l.lane == lane)
            .map(|(&k, _)| k)
            .collect();
        for older in older {
            self.start_close(now, older, CloseReason::Superseded, "");
        }
        // The socket goes to the driver; the lane keeps a closed stand-in out of its reach.
        let socket = match handover.socket.try_clone() {
            Ok(socket) => socket,
            Err(error) => {
                let reason = format!("socket lost at hand-over: {error}");
                self.events.push_back(LaneEvent::Down { peer, lane, epoch, reason });
                return key;
            }
        };
        if let Err(error) = self.io.open(key, socket) {
            let reason = format!("socket not taken by the io driver: {error}");
            self.events.push_back(LaneEvent::Down { peer, lane, epoch, reason });
            return key;
        }
        handover.peer_name.clear();
        let new = Lane::new(now, self.health, handover);
        self.lanes.insert(key, new);
        let limits = self.egress_limits;
        let link = self.links.entry(peer).or_insert_with(|| Link {
            egress: EgressQueue::new(limits),
            lanes: Vec::new(),
            dropped_frames: 0,
            sent_bytes: 0,
            received_bytes: 0,
        });
        link.lanes.push(key);
        self.place_classes(peer);
        self.events.push_back(LaneEvent::Up { peer, lane, epoch });
        self.want_write(key);
        key
    }

    /// Decides anew which lane carries which class.
    fn place_classes(&mut self, peer: NodeId) {
        let Some(link) = self.links.get(&peer) else { return };
        let open: Vec<(LaneKey, LaneId, TrafficClass)> = link
            .lanes
            .iter()
            .filter_map(|key| self.lanes.get(key).map(|lane| (key, lane)))
            .filter(|(_, lane)| lane.closing.is_none())
            .map(|(&key, lane)| (key, lane.lane, lane.class))
            .collect();
        for &(key, ..) in &open {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.carries.clear();
            }
        }
        for class in TrafficClass::ALL {
            let chosen = lane_for(class, open.iter().map(|&(_, lane, class)| (lane, class)));
            let key = open.iter().find(|(_, lane, _)| Some(*lane) == chosen).map(|&(key, ..)| key);
            if let Some(lane) = key.and_then(|key| self.lanes.get_mut(&key)) {
                lane.carries.push(class);
            }
        }
        for &(key, ..) in &open {
            self.want_write(key);
        }
    }

    /// A lane to `peer` is up.
    pub(crate) fn is_up(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| {
            link.lanes
                .iter()
                .any(|key| self.lanes.get(key).is_some_and(|lane| lane.closing.is_none()))
        })
    }

    /// Own streams may give the link to `peer` more of `class`. What others have put there is no
    /// concern of theirs.
    pub(crate) fn has_room(&self, peer: NodeId, class: TrafficClass) -> bool {
        self.is_up(peer)
            && self
                .links
                .get(&peer)
                .is_some_and(|link| link.egress.queued_bytes(class, Origin::Own) < SEND_AHEAD_BYTES)
    }

    /// Queues a frame for `peer`, whose link must be up.
    pub(crate) fn push(
        &mut self,
        peer: NodeId,
        kind: FrameKind,
        class: TrafficClass,
        origin: Origin,
        parts: &[&[u8]],
    ) -> Result<(), EgressFull> {
        let Some(link) = self.links.get_mut(&peer) else {
            return Err(EgressFull { class, queued_bytes: 0 });
        };
        let pushed = link.egress.push(kind, class, origin, parts);
        if pushed.is_err() {
            link.dropped_frames += 1;
        }
        for key in &link.lanes {
            if let Some(lane) = self.lanes.get_mut(key)
                && !lane.writing
                && lane.carries.contains(&class)
            {
                note_wanted(&mut self.wanting, *key, lane);
            }
        }
        pushed
    }

    /// Lends the lane's read buffer to the next read.
    pub(crate) fn read_more(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            let buffer = lane.lend_read_buffer();
            self.io.read(key, buffer);
        }
    }

    /// A write came back.
    pub(crate) fn handle_written(&mut self, key: LaneKey, buffer: Vec<u8>) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.writing = false;
            lane.sent_bytes =
                lane.sent_bytes.saturating_add(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
            lane.session.recycle(buffer);
            note_wanted(&mut self.wanting, key, lane);
        }
    }

    /// Marks the lane as having something to write.
    pub(crate) fn want_write(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            note_wanted(&mut self.wanting, key, lane);
        }
    }

    /// Encrypts what waits and starts writes, on every lane that can take one.
    pub(crate) fn flush(&mut self, now: MonoTime) {
        while let Some(key) = self.wanting.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.wanted = false;
            if lane.writing {
                continue;
            }
            if lane.closing.is_none() {
                let Some(link) = self.links.get_mut(&lane.peer) else { continue };
                if let Err(error) = fill(lane, &mut link.egress) {
                    let why = error.to_string();
                    self.drop_lane(now, key, &why);
                    continue;
                }
            }
            if !lane.session.unsent_is_empty() {
                lane.writing = true;
                let buffer = lane.session.take_unsent();
                self.io.write(key, buffer);
            } else if let Some((why, _)) = &lane.closing {
                let why = why.clone();
                self.drop_lane(now, key, &why);
            }
        }
    }

    /// Closes a lane with a reason that the peer is told.
    pub(crate) fn start_close(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        reason: CloseReason,
        detail: &str,
    ) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let peer = lane.peer;
        if reason == CloseReason::Shutdown
            && lane.closing.is_none()
            && let Some(link) = self.links.get_mut(&peer)
        {
            // What was to be said before the end is said; if that cannot be, nor can the good-bye.
            let _cannot = fill(lane, &mut link.egress);
        }
        lane.start_close(now, reason, detail);
        note_wanted(&mut self.wanting, key, lane);
        self.place_classes(peer);
    }

    pub(crate) fn start_close_all(&mut self, now: MonoTime, reason: CloseReason) {
        let keys: Vec<LaneKey> = self.lanes.keys().copied().collect();
        for key in keys {
            self.start_close(now, key, reason, "");
        }
    }

    /// The lane of `peer` with this id and epoch.
    pub(crate) fn find(&self, peer: NodeId, lane: LaneId, epoch: LinkEpoch) -> Option<LaneKey> {
        self.lanes
            .iter()
            .find(|(_, l)| l.peer == peer && l.lane == lane && l.epoch == epoch)
            .map(|(&key, _)| key)
    }

    /// Ends a lane now. What waited in a link without another lane is dropped: the streams that it
    /// belongs to send it again over another path.
    pub(crate) fn drop_lane(&mut self, _now: MonoTime, key: LaneKey, why: &str) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        self.io.close(key);
        let reason = lane.closing.map_or_else(|| why.to_owned(), |(why, _)| why);
        self.events.push_back(LaneEvent::Down {
            peer: lane.peer,
            lane: lane.lane,
            epoch: lane.epoch,
            reason,
        });
        if let Some(link) = self.links.get_mut(&lane.peer) {
            link.lanes.retain(|&other| other != key);
            link.sent_bytes = link.sent_bytes.saturating_add(lane.sent_bytes);
            link.received_bytes = link.received_bytes.saturating_add(lane.received_bytes);
            if link.lanes.is_empty() {
                link.egress.clear();
            }
        }
        self.place_classes(lane.peer);
    }

    /// Sends heartbeats and closes lanes that are silent or too slow to say good-bye.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) {
        let mut silent = Vec::new();
        let mut over = Vec::new();
        for (&key, lane) in &mut self.lanes {
            if let Some((why, until)) = &lane.closing {
                if *until <= now {
                    over.push((key, why.clone()));
                }
                continue;
            }
            match lane.health.handle_timeout(now) {
                Some(HealthAction::Heartbeat) => {
                    let heartbeat = Heartbeat { sent_nanos: now.as_nanos() };
                    lane.push_own(FrameKind::Ping, &heartbeat.encode());
                    note_wanted(&mut self.wanting, key, lane);
                }
                Some(HealthAction::Dead) => silent.push(key),
                None => {}
            }
        }
        for key in silent {
            self.drop_lane(now, key, CloseReason::Silent.text());
        }
        for (key, why) in over {
            self.drop_lane(now, key, &why);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.lanes
            .values()
            .map(|lane| match &lane.closing {
                Some((_, until)) => *until,
                None => lane.health.poll_timeout(),
            })
            .min()
    }

    pub(crate) fn link_reports(&self) -> Vec<LinkReport> {
        let lanes_of = |link: &Link| -> Vec<&Lane> {
            link.lanes.iter().filter_map(|key| self.lanes.get(key)).collect()
        };
        self.links
            .iter()
            .map(|(&peer, link)| {
                let lanes = lanes_of(link);
                LinkReport {
                    peer,
                    lanes: u32::try_from(lanes.len()).unwrap_or(u32::MAX),
                    rtt: lanes
                        .iter()
                        .map(|lane| lane.health.srtt())
                        .filter(|rtt| !rtt.is_zero())
                        .min()
                        .unwrap_or_default(),
                    sent_bytes: lanes.iter().fold(link.sent_bytes, |sum, l| sum + l.sent_bytes),
                    received_bytes: lanes
                        .iter()
                        .fold(link.received_bytes, |sum, l| sum + l.received_bytes),
                    queued_bytes: u64::try_from(link.egress.queued_bytes_total())
                        .unwrap_or(u64::MAX),
                    dropped_frames: link.dropped_frames,
                }
            })
            .collect()
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }
}

/// Puts a lane into the queue of those that want to write, unless it stands there already.
fn note_wanted(wanting: &mut VecDeque<LaneKey>, key: LaneKey, lane: &mut Lane) {
    if !std::mem::replace(&mut lane.wanted, true) {
        wanting.push_back(key);
    }
}

/// Moves batches of the classes that the lane carries into its session, up to one write's worth.
fn fill(lane: &mut Lane, egress: &mut EgressQueue) -> Result<(), hawser_session::SessionError> {
    lane.send_own()?;
    while lane.session.unsent_len() < WRITE_BYTES {
        let Some(mut batch) = egress.pop(&lane.carries) else { break };
        lane.sent_frames = lane.sent_frames.saturating_add(u64::from(batch.frames));
        lane.session.send_built(&mut batch.bytes)?;
        egress.recycle(batch.bytes);
    }
    Ok(())
}
