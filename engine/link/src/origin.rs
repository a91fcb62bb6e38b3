/// Whose frames are put into a queue. Those of each wait apart, so that neither can keep the other from
/// the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// This node's control, and streams of the queue's own shard, which look for room before they send.
    Own,
    /// Transit, and streams of other shards, which do not.
    Foreign,
}
