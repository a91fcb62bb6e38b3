use hawser_exchange::{
    LinkEventReport, Refusal, ShardToApi, ShardToApiData, ShardToControl, SubscribeEnd,
};
use hawser_wire::{MonoTime, NodeId};

use crate::link_event_quota::LinkEventQuotas;
use crate::link_events::events_untold;
use crate::outlet::Outlet;
use crate::publishers::{CallId, refused};

/// Rings towards one API thread.
#[derive(Debug)]
pub(crate) struct ApiOutlets {
    pub(crate) control: Outlet<ShardToApi>,
    pub(crate) data: Outlet<ShardToApiData>,
}

/// Rings out of the shard, other than to shards.
#[derive(Debug)]
pub(crate) struct Outward {
    pub(crate) control: Outlet<ShardToControl>,
    pub(crate) apis: Vec<ApiOutlets>,
    link_events: LinkEventQuotas,
}

impl Outward {
    pub(crate) fn new(control: Outlet<ShardToControl>, apis: Vec<ApiOutlets>) -> Self {
        Self { control, apis, link_events: LinkEventQuotas::default() }
    }

    /// Tells of an event of the link to `peer`, unless that has had too many lately.
    pub(crate) fn push_link_event(
        &mut self,
        now: MonoTime,
        peer: NodeId,
        report: impl FnOnce() -> LinkEventReport,
    ) {
        if self.link_events.admit(now, peer) {
            self.control.push(ShardToControl::LinkEvent(Box::new(report())));
        }
    }

    /// Tells of an event of the link to `peer` that is told at a rate of its own.
    pub(crate) fn push_rare_link_event(&mut self, report: LinkEventReport) {
        self.control.push(ShardToControl::LinkEvent(Box::new(report)));
    }

    /// Tells of how many events nothing was told.
    pub(crate) fn tell_untold_events(&mut self, now: MonoTime) {
        while let Some((peer, events)) = self.link_events.poll_untold(now) {
            self.push_rare_link_event(events_untold(peer, events));
        }
    }

    /// A ring has room again for what waits.
    pub(crate) fn can_flow(&self) -> bool {
        self.control.can_flow()
            || self.apis.iter().any(|api| api.control.can_flow() || api.data.can_flow())
    }

    pub(crate) fn push_api(&mut self, api: usize, message: ShardToApi) {
        if let Some(outlets) = self.apis.get_mut(api) {
            outlets.control.push(message);
        }
    }

    pub(crate) fn push_api_data(&mut self, api: usize, message: ShardToApiData) {
        if let Some(outlets) = self.apis.get_mut(api) {
            outlets.data.push(message);
        }
    }

    pub(crate) fn refuse(&mut self, (api, session): CallId, refusal: Refusal) {
        self.push_api(api, refused(session, refusal));
    }

    pub(crate) fn end_subscription(&mut self, (api, session): CallId, end: SubscribeEnd) {
        self.push_api_data(api, ShardToApiData::End { session, end });
    }
}
