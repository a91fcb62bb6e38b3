use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, PostcardCodec, Timer,
};
use hawser_wire::MonoTime;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use super::PROBE_INTERVAL;
use super::simulation::Node;

/// 16 bytes as a node id, of which two are the number; and a life, so that one that was declared
/// dead comes back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Name {
    number: u16,
    rest: [u8; 14],
    life: u16,
}

impl Name {
    const fn first(number: u16) -> Self {
        Self { number, rest: [0xa5; 14], life: 0 }
    }
}

impl Identity for Name {
    type Addr = u16;

    fn renew(&self) -> Option<Self> {
        Some(Self { life: self.life.wrapping_add(1), ..*self })
    }

    fn addr(&self) -> u16 {
        self.number
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.life > other.life
    }
}

/// foca's own settings for a LAN, ten times as fast.
pub(super) fn lan(count: u16) -> Config {
    let count = NonZeroU32::new(u32::from(count)).unwrap_or(NonZeroU32::MIN);
    let mut config = Config::new_lan(count);
    let faster = |time: Duration| time / 10;
    config.probe_period = PROBE_INTERVAL;
    config.probe_rtt = PROBE_INTERVAL * 3 / 10;
    config.suspect_to_down_after = faster(config.suspect_to_down_after);
    for params in [
        &mut config.periodic_announce,
        &mut config.periodic_announce_to_down_members,
        &mut config.periodic_gossip,
    ]
    .into_iter()
    .flatten()
    {
        params.frequency = faster(params.frequency);
    }
    config
}

/// As quick as it has to be for all to know of a death in 0.7 s: suspicions of 300 ms.
pub(super) fn quick(count: u16) -> Config {
    let mut config = lan(count);
    config.suspect_to_down_after = PROBE_INTERVAL * 3;
    let num_members = NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN);
    let frequency = PROBE_INTERVAL / 5;
    config.periodic_gossip = Some(PeriodicParams { frequency, num_members });
    config
}

/// A machine of foca, and its timers.
pub(super) struct FocaNode {
    foca: Foca<Name, PostcardCodec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Name>,
    now: MonoTime,
    timers: BinaryHeap<Reverse<(MonoTime, u64)>>,
    pending: std::collections::BTreeMap<u64, Timer<Name>>,
    count: u64,
    out: VecDeque<(u16, Vec<u8>)>,
    verdicts: VecDeque<u16>,
}

impl FocaNode {
    pub(super) fn new(number: u16, count: u16, seed: u64, config: Config) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        let foca = Foca::new(Name::first(number), config, random, PostcardCodec);
        let mut node = Self {
            foca,
            runtime: AccumulatingRuntime::new(),
            now: MonoTime::ZERO,
            timers: BinaryHeap::new(),
            pending: std::collections::BTreeMap::new(),
            count: 0,
            out: VecDeque::new(),
            verdicts: VecDeque::new(),
        };
        // It starts to probe at once; these start at different times.
        node.now = MonoTime::ZERO
            .saturating_add(Duration::from_micros(seed % PROBE_INTERVAL.as_micros() as u64));
        let others = (0..count).filter(|other| *other != number);
        let members = others.map(|other| Member::alive(Name::first(other)));
        let _ = node.foca.apply_many(members, false, &mut node.runtime);
        node.drain();
        node
    }

    fn drain(&mut self) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.out.push_back((to.number, bytes.to_vec()));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.count += 1;
            self.timers.push(Reverse((self.now.saturating_add(after), self.count)));
            self.pending.insert(self.count, timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            if let OwnedNotification::MemberDown(name) = notification {
                self.verdicts.push_back(name.number);
            }
        }
    }
}

impl Node for FocaNode {
    fn handle_message(&mut self, now: MonoTime, _from: u16, bytes: &[u8]) {
        self.now = now;
        // Those of members that it believes to be dead are errors.
        let _ = self.foca.handle_data(bytes, &mut self.runtime);
        self.drain();
    }

    fn handle_timeout(&mut self, now: MonoTime) {
        self.now = now;
        while self.timers.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, number))) = self.timers.pop() else { break };
            if let Some(timer) = self.pending.remove(&number) {
                let _ = self.foca.handle_timer(timer, &mut self.runtime);
            }
            self.drain();
        }
    }

    fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    fn poll_transmit(&mut self) -> Option<(u16, Vec<u8>)> {
        self.out.pop_front()
    }

    fn poll_verdict(&mut self) -> Option<u16> {
        self.verdicts.pop_front()
    }
}
