use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hawser_exchange::LinkEventReport;
use hawser_routing::TokenBucket;
use hawser_wire::{MonoTime, NodeId, Notice, NoticeLimit, NoticeRefusal, TenantId};

/// An event about the same bound follows no sooner than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Bounds and tenants that are told apart; of more, the last are forgotten.
const BOUNDS_MAX: usize = 64;

/// Events about records behind one neighbour, whatever the bound: who says where it was may say anything.
const EVENTS: TokenBucket = TokenBucket::new(64, Duration::from_millis(250));

/// What was refused since the last event about a bound.
#[derive(Debug)]
struct Refused {
    reported_at: MonoTime,
    records: u64,
}

/// Records of this shard's streams that some node on their way had no place for, as events: the first
/// about a tenant's records and a bound at once, then one a second at most, with how many there were.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_bound: BTreeMap<(NodeId, &'static str, TenantId), Refused>,
    /// What may be told yet, by neighbour.
    events: BTreeMap<NodeId, TokenBucket>,
    reports: VecDeque<LinkEventReport>,
}

impl Refusals {
    /// A record of `tenant` was refused; its path begins with the link to `neighbour`.
    pub(crate) fn handle_notice(
        &mut self,
        now: MonoTime,
        neighbour: NodeId,
        tenant: TenantId,
        notice: &Notice,
        refusal: NoticeRefusal,
    ) {
        let key = (notice.at, refusal.limit.name(), tenant);
        if !self.by_bound.contains_key(&key) && self.by_bound.len() >= BOUNDS_MAX {
            self.by_bound.pop_last();
        }
        let refused = self
            .by_bound
            .entry(key)
            .or_insert_with(|| Refused { reported_at: MonoTime::ZERO, records: 0 });
        refused.records = refused.records.saturating_add(1);
        let is_first = refused.reported_at == MonoTime::ZERO;
        if !is_first && now.saturating_since(refused.reported_at) < REPORT_EVERY {
            return;
        }
        if !self.events.entry(neighbour).or_insert(EVENTS).take(now) {
            // Counted towards the next event.
            return;
        }
        refused.reported_at = now;
        let records = std::mem::take(&mut refused.records);
        let mut inputs = vec![
            ("at", notice.at.to_string()),
            ("limit", refusal.limit.name().to_owned()),
            ("class", refusal.class.name().to_owned()),
            ("tenant", tenant.to_string()),
            ("destination", notice.destination.to_string()),
            ("stream", notice.stream.to_string()),
            ("records", records.to_string()),
        ];
        if let Some(lane) = refusal.lane {
            inputs.push(("lane", lane.0.to_string()));
        }
        if refusal.limit != NoticeLimit::FrameSize {
            inputs.push(("retry_after_ms", refusal.retry_after_ms.to_string()));
        }
        self.reports.push_back(LinkEventReport { peer: neighbour, name: "refused", inputs });
    }

    /// The next event.
    pub(crate) fn poll_report(&mut self) -> Option<LinkEventReport> {
        self.reports.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::{LaneId, NoticeReason, PathId, StreamId, TrafficClass};

    use super::*;

    fn refuse(refusals: &mut Refusals, at_ms: u64, limit: NoticeLimit, tenant: u8) {
        let refusal = NoticeRefusal {
            limit,
            class: TrafficClass::Bulk,
            lane: Some(LaneId(2)),
            retry_after_ms: 40,
        };
        let notice = Notice {
            path: PathId(1),
            reason: NoticeReason::Congested,
            at: NodeId::from_bytes([2; 16]),
            destination: NodeId::from_bytes([3; 16]),
            stream: StreamId::from_bytes([4; 16]),
            refusal: Some(refusal),
        };
        let now = MonoTime::from_nanos((at_ms + 1) * 1_000_000);
        let tenant = TenantId::from_bytes([tenant; 16]);
        refusals.handle_notice(now, notice.at, tenant, &notice, refusal);
    }

    fn records(report: &LinkEventReport) -> &str {
        report.inputs.iter().find(|(name, _)| *name == "records").map_or("", |(_, value)| value)
    }

    #[test]
    fn many_bounds_behind_one_neighbour_are_told_at_a_rate_and_none_is_forgotten() {
        let mut refusals = Refusals::default();
        for ms in 0..20_000 {
            refuse(&mut refusals, ms, NoticeLimit::Stream, u8::try_from(ms % 20).unwrap());
        }
        let reports: Vec<_> = std::iter::from_fn(|| refusals.poll_report()).collect();
        assert!((64..=64 + 80).contains(&reports.len()), "{}", reports.len());
        let told: u64 = reports.iter().map(|report| records(report).parse::<u64>().unwrap()).sum();
        let untold: u64 = refusals.by_bound.values().map(|refused| refused.records).sum();
        assert_eq!(told + untold, 20_000);
    }

    #[test]
    fn a_flood_of_refusals_is_an_event_a_second_for_each_bound_and_tenant() {
        let mut refusals = Refusals::default();
        for ms in 0..2500 {
            refuse(&mut refusals, ms, NoticeLimit::Stream, 1);
        }
        refuse(&mut refusals, 2500, NoticeLimit::Class, 1);
        refuse(&mut refusals, 2500, NoticeLimit::Stream, 2);
        let reports: Vec<_> = std::iter::from_fn(|| refusals.poll_report()).collect();
        assert_eq!(
            reports.iter().map(records).collect::<Vec<_>>(),
            ["1", "1000", "1000", "1", "1"]
        );
        let tenants = [1, 2].map(|byte| TenantId::from_bytes([byte; 16]).to_string());
        for (report, tenant) in [(&reports[0], &tenants[0]), (&reports[4], &tenants[1])] {
            let inputs = &report.inputs;
            let wanted = [
                ("limit", "stream quota"),
                ("lane", "2"),
                ("retry_after_ms", "40"),
                ("tenant", tenant),
            ];
            for wanted in wanted {
                assert!(inputs.iter().any(|(n, v)| (*n, v.as_str()) == wanted), "{inputs:?}");
            }
        }
    }
}
