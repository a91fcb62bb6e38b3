use hawser_exchange::ShardReport;

use crate::io::ShardIo;
use crate::shard::Shard;

/// What the shard owns, as the operator sees it.
pub(crate) fn shard_report<I: ShardIo>(shard: &Shard<I>) -> Box<ShardReport> {
    Box::new(ShardReport {
        shard: shard.forwarder.shard,
        links: shard.forwarder.links.link_reports(),
        lanes: shard.forwarder.links.lane_reports(),
        streams: shard.streams.reports(),
    })
}
