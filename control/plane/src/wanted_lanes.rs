//! Lanes that shards miss: dialled, lent an address for, or asked for over the mesh; and what
//! becomes of others' requests to dial them.

use hawser_admission::check_address;
use hawser_exchange::ControlToShard;
use hawser_wire::{LaneId, NodeId, TrafficClass};

use crate::control::Control;
use crate::datagram::{Datagram, dial_back_envelope};
use crate::dial_back_guard::{Ignored, Member};
use crate::dial_back_request::DialBackRequest;
use crate::dialler::WantedLane;
use crate::directory::has_left;
use crate::wishes::{Ask, Wishes};

impl Control {
    /// A shard misses a lane.
    pub(crate) fn handle_want_lane(&mut self, peer: NodeId, lane: LaneId, class: TrafficClass) {
        // A link that was cut on purpose comes back when that is over.
        if !self.is_running() || self.leaving.is_some() || self.links.is_barred(peer) {
            return;
        }
        if self.lane_plan(peer).class_of(lane) != Some(class) {
            tracing::debug!(%peer, %lane, class = class.name(), "no lane of this node's plan");
            return;
        }
        let now = self.now();
        let wanted = WantedLane { peer, lane, class, until: Wishes::until(now) };
        self.dialler.want(now, &wanted);
        self.wishes.add(now, wanted);
    }

    /// Asks for lanes that are still missing.
    pub(crate) fn ask_due(&mut self) {
        let now = self.now();
        self.wishes.handle_time(now, |peer, lane| self.links.is_incomplete_without(peer, lane));
        while let Some(ask) = self.wishes.poll_ask(now) {
            if !self.links.is_served(ask.wanted.peer, ask.wanted.lane) {
                self.ask(ask);
            }
        }
    }

    /// Dials a peer where it says that it can be dialled. One that says nothing, or does not answer
    /// there, is asked to dial.
    fn ask(&mut self, Ask { wanted, round }: Ask) {
        let now = self.now();
        let peer = wanted.peer;
        let lsa = self.flooding.lsdb().get(peer).filter(|lsa| !has_left(lsa));
        let Some(address) = lsa.map(|lsa| lsa.address.clone()) else { return };
        // An address may have been learned since the lane was missed.
        let can_dial = self.dialler.want(now, &wanted)
            || (!address.is_empty() && self.dialler.lend(now, &address, &wanted));
        if can_dial && round == 0 {
            return;
        }
        let is_neighbour = self.links.is_link_up(peer);
        // Without a way to the peer there is nothing to be said, without a way back nothing to ask.
        let can_answer = self.listening.is_some() || self.config.advertise.is_some();
        if !can_answer || !(is_neighbour || self.hops.contains_key(&peer)) {
            return;
        }
        self.dial_backs_sent = self.dial_backs_sent.saturating_add(1);
        let mut request = DialBackRequest {
            incarnation: self.incarnation(),
            sequence: self.dial_backs_sent,
            lane: wanted.lane,
            class: wanted.class,
            lifetime: wanted.until.saturating_since(now),
            addresses: self.advertised_address().into_iter().collect(),
            signature: [0; 64],
        };
        request.signature = self.key.sign(&request.signed_bytes(self.node, peer));
        let inputs = vec![
            ("lane", wanted.lane.to_string()),
            ("class", wanted.class.name().to_owned()),
            ("via", if is_neighbour { "link" } else { "mesh" }.to_owned()),
            ("asked_before", round.to_string()),
            ("addresses", request.addresses.join(",")),
            ("lifetime_ms", request.lifetime.as_millis().to_string()),
        ];
        self.note_lane_event(peer, "dial-back-asked", inputs);
        if is_neighbour {
            let body = dial_back_envelope(&request).into();
            self.shards.send_to_link(peer, ControlToShard::LinkControl { peer, body });
        } else {
            self.send_datagram(peer, &Datagram::DialBack(request));
        }
    }

    /// Another node wants to be dialled, as the neighbour `via` brings it.
    pub(crate) fn handle_dial_back(
        &mut self,
        (from, via): (NodeId, NodeId),
        request: &DialBackRequest,
    ) {
        if !self.is_running() || self.leaving.is_some() || self.links.is_barred(from) {
            return;
        }
        let mut inputs = vec![
            ("lane", request.lane.to_string()),
            ("class", request.class.name().to_owned()),
            ("addresses", request.addresses.join(",")),
            ("lifetime_ms", request.lifetime.as_millis().to_string()),
        ];
        match self.heed_dial_back((from, via), request) {
            Ok(()) => self.note_lane_event(from, "dial-back-heeded", inputs),
            Err(reason) => {
                let count = self.dial_back_guard.count(reason);
                // A flood of them is told in as many events as its length has binary digits.
                if count.is_power_of_two() {
                    inputs.push(("reason", reason.name().to_owned()));
                    inputs.push(("ignored_for_it", count.to_string()));
                    self.note_lane_event(from, "dial-back-ignored", inputs);
                }
            }
        }
    }

    fn heed_dial_back(
        &mut self,
        (from, via): (NodeId, NodeId),
        request: &DialBackRequest,
    ) -> Result<(), Ignored> {
        let now = self.now();
        let lsa = self.flooding.lsdb().get(from).filter(|lsa| !has_left(lsa));
        let member = lsa
            .filter(|_| from != self.node)
            .map(|lsa| Member { incarnation: lsa.incarnation, public_key: lsa.public_key });
        let advertised = lsa.map(|lsa| lsa.address.clone());
        self.dial_back_guard.check(now, (from, self.node), via, member, request)?;
        let (lane, class) = (request.lane, request.class);
        if self.lane_plan(from).class_of(lane) != Some(class) {
            return Err(Ignored::UnknownLane);
        }
        if self.links.is_served(from, lane) {
            return Err(Ignored::Served);
        }
        let until = now.saturating_add(request.lifetime);
        let wanted = WantedLane { peer: from, lane, class, until };
        let mut can_dial = self.dialler.want(now, &wanted);
        let lent = request.addresses.iter().chain(&advertised);
        for address in lent.filter(|address| check_address(address).is_ok()) {
            can_dial |= self.dialler.lend(now, address, &wanted);
        }
        if can_dial { Ok(()) } else { Err(Ignored::NoAddress) }
    }
}
