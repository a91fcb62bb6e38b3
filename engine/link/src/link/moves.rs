//! Plain streams that change their lane, in order.

use hawser_wire::TrafficClass;

use super::VirtualLink;
use crate::data_queue::DataQueue;
use crate::flow_table::{Bucket, mix};

/// Where the next frame of a plain stream goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// To a lane, by its number.
    Lane(usize),
    /// To what waits for the stream's next lane.
    Move(usize),
    /// The stream is to change its lane; the number of the lane that it leaves, which holds frames of
    /// it up to this link sequence.
    Leaves { from: usize, last: u64 },
}

impl VirtualLink {
    /// The lane that a hash keeps to: of those that carry bulk the one with the highest hash
    /// (rendezvous hashing), so that one more or less moves few.
    pub(super) fn pinned(&self, hash: u64) -> Option<usize> {
        let carrying = self.lanes.iter().enumerate();
        carrying
            .filter(|(_, lane)| lane.carries.contains(TrafficClass::Bulk))
            .max_by_key(|(_, lane)| mix(hash, u64::from(lane.id.lane.0)))
            .map(|(at, _)| at)
    }

    /// Where the next frame of a plain stream goes, if any lane carries bulk.
    pub(super) fn place_of(&self, stream: u64) -> Option<Place> {
        let bucket = Bucket::of(stream);
        if self.flows.is_moving()
            && let Some(at) = self.flows.move_of(bucket)
        {
            return Some(Place::Move(at));
        }
        let at = self.pinned(bucket.hash())?;
        let pin = self.flows.pin(bucket);
        if self.lanes.get(at)?.key == pin.lane {
            return Some(Place::Lane(at));
        }
        let is_left = |lane: &&crate::lane::Lane| lane.key == pin.lane && !lane.quiet;
        let left = self.lanes.iter().enumerate().find(|(_, lane)| is_left(lane));
        Some(match left {
            Some((from, lane)) if lane.lowest() <= pin.last => {
                Place::Leaves { from, last: pin.last }
            }
            _ => Place::Lane(at),
        })
    }

    /// As [`Self::place_of`]; a stream that is to change its lane begins to.
    pub(super) fn place_next(&mut self, stream: u64) -> Option<Place> {
        let place = self.place_of(stream)?;
        let Place::Leaves { from, last } = place else { return Some(place) };
        let from = self.lanes.get(from)?;
        Some(Place::Move(self.flows.begin(Bucket::of(stream), from, last)))
    }

    /// What waits where a stream's next frame goes.
    pub(super) fn bulk_at(&self, place: Place) -> Option<&DataQueue> {
        match place {
            Place::Lane(at) => self.lanes.get(at).map(|lane| &lane.bulk),
            Place::Move(at) => self.flows.get(at).map(|found| &found.bulk),
            Place::Leaves { .. } => None,
        }
    }

    /// A frame of a plain stream waits there from now on; it is counted if its link sequence is not 0.
    pub(super) fn note_placed(&mut self, place: Place, stream: u64, sequence: u64) {
        match place {
            Place::Lane(at) => {
                let Some(lane) = self.lanes.get_mut(at) else { return };
                lane.wanted = true;
                if sequence != 0 {
                    self.flows.set_pin(Bucket::of(stream), lane.key, sequence);
                }
            }
            Place::Move(at) => self.flows.note_waiting(at, sequence),
            Place::Leaves { .. } => {}
        }
    }

    /// Lets streams whose former lane has brought on what it had of them have their next one, once there
    /// is one. To be asked when lanes are acknowledged something, came or went.
    pub(super) fn settle_moves(&mut self) {
        if !self.flows.is_moving() || self.pinned(0).is_none() {
            return;
        }
        for found in self.flows.take_over(&self.lanes) {
            let next = self.pinned(found.bucket.hash()).and_then(|at| self.lanes.get_mut(at));
            let Some(lane) = next else { return };
            lane.bulk.append(found.bulk);
            lane.wanted = true;
            self.flows.set_pin(found.bucket, lane.key, found.newest);
        }
    }

    /// A lane has sent something.
    pub(super) fn note_sent(&mut self, at: usize) {
        if self.flows.is_moving()
            && let Some(lane) = self.lanes.get(at)
        {
            self.flows.handle_turn(lane);
        }
    }
}
