/// Whose frames are put into a queue. Bulk of each waits apart, so that neither can keep the other
/// from the link; the other classes make no difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Streams of the queue's own shard, which look for room before they send.
    Own,
    /// Transit and other shards, which do not.
    Foreign,
}
