use std::collections::BTreeMap;
use std::time::Duration;

use hawser_delivery::PathWindow;
use hawser_wire::{LinkMode, MonoTime, RECORD_BYTES_TARGET, TrafficClass};

use crate::simulation::{Flow, Link, Simulation};
use crate::violation::Property;
use crate::world::{Expectation, Pace};

/// Of a world with load.
const MESSAGES_PER_MINUTE: u64 = 1000;
/// Beside 1.5 round trips, the time for which bulk may fill a link.
const IN_FLIGHT_SLACK: Duration = Duration::from_millis(5);
/// What a link may always have in flight.
const IN_FLIGHT_FLOOR_BYTES: u64 = 4 << 10;
/// What a stream that rests counts with.
#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const WINDOW_BYTES_MIN: u64 = RECORD_BYTES_TARGET as u64;
/// What may be in flight, in percent of that: an estimate of a rate may be too high. Where one lane
/// carries all classes both ways, acknowledgements come in lumps behind the other direction's bulk.
const IN_FLIGHT_PERCENT: u64 = 110;
const IN_FLIGHT_PERCENT_ONE_LANE: u64 = 175;

impl Simulation {
    /// What a world asks of the time under load.
    pub(crate) fn check_load(&mut self) {
        self.delivered = self.flows.iter().map(|flow| flow.filled_bytes).collect();
        self.check_fairness();
        self.check_tenants();
        self.check_precedence();
        self.check_resent();
        self.check_throughput();
        self.check_control();
        self.check_in_flight();
        self.check_age();
    }

    /// A minute had messages and faults enough; `before` it were so many of both.
    pub(crate) fn check_minute(&mut self, (messages, faults): (u64, u64)) {
        let messages = self.messages().saturating_sub(messages);
        let faults = self.faults.saturating_sub(faults);
        if self.world.expect.load && (messages < MESSAGES_PER_MINUTE || faults == 0) {
            let text = format!("a minute of {messages} messages and {faults} faults");
            self.violate(Property::Load, text);
        }
    }

    /// Sources sent nothing again.
    fn check_resent(&mut self) {
        let bytes = self.resent_bytes();
        if self.world.expect.no_resend && bytes > 0 {
            self.violate(Property::NoResend, format!("{bytes} bytes were sent again end to end"));
        }
    }

    /// Saturating flows have like shares: those of one path among themselves, those of different paths
    /// if each has one of its own.
    fn check_fairness(&mut self) {
        let Expectation { fair_percent, at_least_percent, .. } = self.world.expect;
        if fair_percent == 0 && at_least_percent == 0 {
            return;
        }
        let shares = &self.delivered;
        let mean_of = |flow: usize| {
            let path = &self.flows[flow].shape.path;
            let is_rival = |other: usize| self.flows[other].shape.path == *path;
            let is_alone = (0..shares.len()).filter(|&other| is_rival(other)).count() == 1;
            let rivals =
                shares.iter().enumerate().filter(|&(other, _)| is_alone || is_rival(other));
            let (total, count) = rivals.fold((0_u64, 0_u64), |(total, count), (_, &share)| {
                (total.saturating_add(share), count.saturating_add(1))
            });
            total.checked_div(count).unwrap_or(0)
        };
        let unfair = |(flow, &share): (usize, &u64)| {
            let mean = mean_of(flow);
            let percent = |percent: u64| mean.saturating_mul(percent).checked_div(100).unwrap_or(0);
            let apart = if fair_percent == 0 { u64::MAX } else { percent(fair_percent) };
            mean == 0 || share < percent(at_least_percent) || share.abs_diff(mean) > apart
        };
        if shares.iter().enumerate().any(unfair) {
            let text = format!("flows delivered {shares:?} bytes");
            self.violate(Property::Fairness, text);
        }
    }

    /// Tenants have like shares of each path, however many streams each has there.
    fn check_tenants(&mut self) {
        let percent = self.world.expect.tenants_fair_percent;
        let mut shares: BTreeMap<(&[u16], u8), u64> = BTreeMap::new();
        let flows = self.flows.iter().zip(&self.delivered);
        for (flow, bytes) in flows.filter(|(flow, _)| flow.shape.pace == Pace::Saturating) {
            let share = shares.entry((&flow.shape.path, flow.shape.tenant)).or_default();
            *share = share.saturating_add(*bytes);
        }
        let is_fair = |(&(path, _), &share): (&(&[u16], u8), &u64)| {
            let rivals = shares.iter().filter(|((other, _), _)| *other == path);
            let (total, count) = rivals.fold((0_u64, 0_u64), |(total, count), (_, share)| {
                (total.saturating_add(*share), count.saturating_add(1))
            });
            let mean = total.checked_div(count).unwrap_or(0);
            share.abs_diff(mean).saturating_mul(100) <= mean.saturating_mul(percent) && mean > 0
        };
        if percent > 0 && !shares.iter().all(is_fair) {
            let text = format!("tenants delivered {shares:?} bytes");
            self.violate(Property::Fairness, text);
        }
    }

    /// Priority goes before bulk.
    fn check_precedence(&mut self) {
        let percent = self.world.expect.priority_percent;
        let filling = |flow: usize| self.flows[flow].shape.pace == Pace::Saturating;
        let is_priority = |flow: usize| self.flows[flow].shape.class == TrafficClass::Priority;
        let starved = (0..self.delivered.len()).filter(|&flow| filling(flow)).find(|&flow| {
            let path = &self.flows[flow].shape.path;
            let rivals = self.delivered.iter().enumerate();
            let rivals = rivals
                .filter(|&(other, _)| filling(other) && self.flows[other].shape.path == *path);
            let (all, first) = rivals.fold((0_u64, 0_u64), |(all, first), (other, &bytes)| {
                let priority = if is_priority(other) { bytes } else { 0 };
                (all.saturating_add(bytes), first.saturating_add(priority))
            });
            first.saturating_mul(100) < all.saturating_mul(percent)
        });
        if starved.is_some() {
            let text = format!("flows delivered {:?} bytes", self.delivered);
            self.violate(Property::Precedence, text);
        }
    }

    /// Flows beside a slow one keep nine tenths: all of them together, and each of what it had, or of an equal
    /// part where it had more.
    pub(crate) fn check_isolation(&mut self) {
        let Some(slowness) = self.world.expect.isolate else { return };
        let delivered: Vec<u64> = self.flows.iter().map(|flow| flow.filled_bytes).collect();
        let others = || {
            let pairs = delivered.iter().zip(&self.baseline).enumerate();
            pairs.filter(|(flow, _)| *flow != slowness.flow).map(|(_, pair)| pair)
        };
        let (mut all_with, mut all_without, mut count) = (0_u64, 0_u64, 0_u64);
        for (&with, &without) in others() {
            all_with = all_with.saturating_add(with);
            all_without = all_without.saturating_add(without);
            count = count.saturating_add(1);
        }
        let part = all_without.checked_div(count).unwrap_or(0);
        let keeps = |with: u64, of: u64| with.saturating_mul(10) >= of.saturating_mul(9) && of > 0;
        let is_kept = keeps(all_with, all_without)
            && others().all(|(&with, &without)| keeps(with, without.min(part)));
        if !is_kept {
            let (with, without) = (&delivered, &self.baseline);
            let text = format!(
                "flow {} is slow: delivered {with:?} bytes, {without:?} while it is not",
                slowness.flow
            );
            self.violate(Property::Isolation, text);
        }
    }

    /// Flows have of the links on their way what those carry.
    fn check_throughput(&mut self) {
        let percent = self.world.expect.carries_percent;
        let seconds = self.load_end.saturating_since(MonoTime::ZERO).as_secs();
        let seconds = seconds.saturating_mul(self.world.rests.full_percent()) / 100;
        let carries = |flow: &Flow| {
            let is_on = |link: &&Link| {
                let ends = [link.shape.a, link.shape.b];
                flow.shape.path.windows(2).any(|pair| pair.iter().all(|node| ends.contains(node)))
            };
            let slowest = self.links.iter().filter(is_on).map(|link| link.shape.bytes_per_second);
            slowest.min().unwrap_or(0).saturating_mul(seconds)
        };
        let flows = self.flows.iter().zip(&self.delivered);
        let starved = flows
            .filter(|(flow, _)| flow.shape.pace == Pace::Saturating)
            .map(|(flow, &bytes)| (bytes, carries(flow)))
            .find(|&(bytes, of)| bytes.saturating_mul(100) < of.saturating_mul(percent));
        if let Some((bytes, of)) = starved {
            let text = format!("a flow delivered {bytes} bytes where its links carry {of}");
            self.violate(Property::Throughput, text);
        }
    }

    /// Control frames pass in time.
    fn check_control(&mut self) {
        let within = self.world.expect.control_within;
        if within.is_zero() {
            return;
        }
        self.probes_us.sort_unstable();
        let rank = self.probes_us.len().saturating_mul(99).checked_div(100).unwrap_or(0);
        let within_us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        match self.probes_us.get(rank) {
            Some(&p99_us) if p99_us <= within_us => {}
            Some(p99_us) => {
                let text = format!("99 of 100 control frames took {p99_us} µs, not {within_us}");
                self.violate(Property::ControlLatency, text);
            }
            None => self.violate(Property::ControlLatency, "no control frame passed".to_owned()),
        }
    }

    /// While links are filled, priority and bulk in flight stay within their bound, but for one sample in twenty: a lane that comes, and an estimate, may be too much.
    fn check_in_flight(&mut self) {
        if !self.world.expect.in_flight {
            return;
        }
        self.in_flight_permille.sort_unstable();
        let rank = self.in_flight_permille.len().saturating_mul(95).checked_div(100).unwrap_or(0);
        let permille = self.in_flight_permille.get(rank).copied().unwrap_or(u64::MAX);
        if permille > 1000 {
            let text = format!("95 of 100 times up to {permille} ‰ of the bound were in flight");
            self.violate(Property::InFlight, text);
        }
    }

    /// How much of what the design allows is in flight at a link end: the bottleneck's rate times
    /// (1.5 round trips + 5 ms), but at least the floor; an estimate of it may be too high.
    pub(crate) fn sample_in_flight(&mut self, link_end: usize) {
        let end = &self.ends[link_end];
        let shape = &self.links[end.link].shape;
        let allowed_for = shape.path.delay.saturating_mul(3).saturating_add(IN_FLIGHT_SLACK);
        let micros = u64::try_from(allowed_for.as_micros()).unwrap_or(u64::MAX);
        let bytes = shape.bytes_per_second.saturating_mul(micros).checked_div(1_000_000);
        let allowed = bytes.unwrap_or(0).max(IN_FLIGHT_FLOOR_BYTES);
        let is_one_lane = end.machine.mode() == LinkMode::Collapsed || shape.bulk_lanes == 0;
        let percent = if is_one_lane { IN_FLIGHT_PERCENT_ONE_LANE } else { IN_FLIGHT_PERCENT };
        let allowed = allowed.saturating_mul(percent).checked_div(100).unwrap_or(0);
        let in_flight = end.machine.status().in_flight_bytes.saturating_mul(1000);
        self.in_flight_permille.push(in_flight.checked_div(allowed).unwrap_or(u64::MAX));
    }

    /// A world that has come to rest says no more than its heartbeats and their echoes.
    pub(crate) fn check_rest(&mut self, during: Duration, messages: u64) {
        let ticks = during.as_nanos().checked_div(self.world.link.tick.as_nanos()).unwrap_or(0);
        let lanes = self.ends.iter().fold(0_u128, |sum, end| {
            sum.saturating_add(u128::try_from(end.open.len()).unwrap_or(u128::MAX))
        });
        let beats = lanes.saturating_mul(ticks.saturating_add(1)).saturating_mul(2);
        if self.violation.is_none() && u128::from(messages) > beats {
            let text = format!("{messages} messages in {during:?} of rest, {beats} heartbeats");
            self.violate(Property::Rest, text);
        }
    }

    /// In a world that has come to rest nothing is under way, as sources see it, and each may send what
    /// its destination has room for.
    pub(crate) fn check_credit(&mut self) {
        let wrong = (0..self.flows.len()).find_map(|number| {
            let flow = &self.flows[number];
            let (from, to) = (&self.nodes[self.node_of_source(number)], self.node_of_sink(number));
            let (sender, receiver) = (&flow.source.sender, &flow.sink.receiver);
            let (credit, room) = (sender.credit_left(self.nodes[to].id), receiver.credit_left());
            let held = sender.buffered_bytes().saturating_add(receiver.buffered_bytes());
            let window = from.windows.get(flow.source.path);
            let in_flight = window.map_or(0, PathWindow::in_flight_bytes);
            (credit != room || room == 0 || held > 0 || in_flight > 0).then(|| {
                format!(
                    "flow {number}: {credit} bytes may be sent, for {room} there is room; {held} are \
                     held, {in_flight} under way"
                )
            })
        });
        if let Some(text) = wrong
            && self.violation.is_none()
        {
            self.violate(Property::CreditReturns, text);
        }
    }

    /// Of streams that rest a destination's budget counts the least window each, and nothing else: all
    /// other memory is for who comes next. So each has its whole window when it goes on.
    pub(crate) fn check_budgets(&mut self) {
        if self.violation.is_some() {
            return;
        }
        for number in 0..self.nodes.len() {
            let node = &self.nodes[number];
            let sinks = u64::try_from(node.sinks.len()).unwrap_or(u64::MAX);
            let (used, least) = (node.budget.used_bytes(), sinks.saturating_mul(WINDOW_BYTES_MIN));
            if used != least {
                let text = format!("node {number}: {used} bytes of credit for {sinks} at rest");
                self.violate(Property::CreditReturns, text);
            }
        }
        let now = self.queue.now();
        for number in 0..self.flows.len() {
            let node = self.node_of_sink(number);
            let receiver = &mut self.flows[number].sink.receiver;
            // As if its source asked.
            receiver.handle_path();
            let _said = receiver.poll_ack(now, &mut self.nodes[node].budget);
            let (room, wanted) = (receiver.credit_left(), receiver.window_wanted());
            if room < wanted {
                let text = format!("flow {number}: room for {room} bytes, of a window of {wanted}");
                self.violate(Property::CreditReturns, text);
            }
        }
    }

    /// Messages arrive in time.
    fn check_age(&mut self) {
        self.check_age_of(self.world.expect.age_within, |_| true);
        let is_priority = |class: TrafficClass| class == TrafficClass::Priority;
        self.check_age_of(self.world.expect.priority_within, is_priority);
    }

    /// Those of the classes that `counts` names arrive in time.
    fn check_age_of(&mut self, within: Duration, counts: fn(TrafficClass) -> bool) {
        let within_us = within.as_micros();
        if within_us == 0 {
            return;
        }
        let flows = self.flows.iter().filter(|flow| counts(flow.shape.class));
        let mut ages_us: Vec<u32> =
            flows.flat_map(|flow| flow.sink.ages_us.iter().copied()).collect();
        let rank = ages_us.len().saturating_mul(999).checked_div(1000).unwrap_or(0);
        if ages_us.is_empty() {
            return;
        }
        let (_, &mut age_us, _) = ages_us.select_nth_unstable(rank);
        if u128::from(age_us) > within_us {
            let text = format!("999 of 1000 messages took {age_us} µs, not {within_us}");
            self.violate(Property::MessageAge, text);
        }
    }

    /// Everything has arrived and every queue is empty.
    pub(crate) fn is_settled(&self) -> bool {
        let flows = self.flows.iter().all(|flow| {
            let (published, _) = flow.source.progress();
            flow.source.is_settled() && flow.sink.last_seq() >= published
        });
        let idle = |end: &crate::link_end::LinkEnd| {
            end.machine.is_up() && end.is_idle() && end.ledgers.last().is_none_or(|l| l.open() == 0)
        };
        flows
            && self.ends.iter().all(idle)
            && (0..self.ends.len()).all(|end| self.missing_lane(end).is_none())
    }

    /// What is still to arrive, if not everything has.
    pub(crate) fn unsettled(&self) -> (Property, String) {
        for (number, flow) in self.flows.iter().enumerate() {
            let (published, acked) = flow.source.progress();
            let got = flow.sink.last_seq();
            if got < published || acked < published {
                let text = format!(
                    "flow {number}: {published} messages published, {acked} acknowledged, {got} \
                     delivered"
                );
                return (Property::NothingLost, text);
            }
        }
        for end in self.ends.iter() {
            let (from, to) = (end.node, end.peer);
            if let Some(ledger) = end.ledgers.last()
                && let Some((first, taken_at)) = ledger.first_open()
            {
                let (open, taken_at) = (ledger.open(), taken_at.saturating_since(MonoTime::ZERO));
                let text = format!(
                    "link {from} to {to}: {open} frames never arrived, the first {first}, which the \
                     link took at {taken_at:?}"
                );
                return (Property::NothingLost, text);
            }
            if !end.machine.is_up() || !end.is_idle() {
                let text = format!("link {from} to {to} does not come to rest: {}", end.state());
                return (Property::NoDeadlock, text);
            }
        }
        for number in 0..self.ends.len() {
            if let Some(lane) = self.missing_lane(number) {
                let (from, to) = (self.ends[number].node, self.ends[number].peer);
                let text = format!("link {from} to {to} has no lane {lane}, and nobody dials it");
                return (Property::NoDeadlock, text);
            }
        }
        (Property::NoDeadlock, "the world does not come to rest".to_owned())
    }
}
