//! What streams and links may hold, as configured.

use hawser_runtime::ShardConfig;

use super::settings::Settings;
use crate::cli::failure::Failure;

/// Of `links.queue_bytes`, marks begin at a part of this at the latest: a stream alone may fill a third,
/// and is to slow down before something of it is dropped.
const MARK_SHARE: usize = 4;

/// Bounds of each stream and each link, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bounds {
    stream_window: u64,
    stream_outbox: u64,
    /// Of all shards.
    stream_memory: u64,
    link_unacked: usize,
    link_credit: u64,
    link_queue: usize,
    link_mark: usize,
}

impl Bounds {
    /// # Errors
    /// If queues would drop before they mark.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, Failure> {
        let number = |name: &str| settings.number(name).unwrap_or_default();
        let small = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let (link_queue, link_mark) = (small("links.queue_bytes"), small("links.mark_bytes"));
        let mark_max = link_queue / MARK_SHARE;
        if link_mark > mark_max {
            return Err(Failure::config(format!(
                "links.mark_bytes: expected at most a quarter of links.queue_bytes ({link_queue}), \
                 {mark_max}; found {link_mark}"
            )));
        }
        Ok(Self {
            stream_window: number("streams.window_bytes"),
            stream_outbox: number("streams.outbox_bytes"),
            stream_memory: number("streams.memory_bytes"),
            link_unacked: small("links.unacked_bytes"),
            link_credit: number("links.credit_bytes"),
            link_queue,
            link_mark,
        })
    }

    /// Has a shard, one of so many, keep to them.
    pub(crate) fn apply(&self, shard: &mut ShardConfig, shards: usize) {
        let shards = u64::try_from(shards).unwrap_or(u64::MAX).max(1);
        shard.stream_memory_bytes = self.stream_memory / shards;
        shard.delivery.window_bytes = self.stream_window;
        shard.delivery.outbox_bytes = self.stream_outbox;
        shard.link.window_bytes = self.link_unacked;
        shard.link.credit_bytes_max = self.link_credit;
        shard.link.data_bytes_max = self.link_queue;
        shard.link.mark_bytes = self.link_mark;
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::NodeId;

    use super::*;

    fn bounds(values: &[(&str, &str)]) -> Result<Bounds, Failure> {
        let mut settings = Settings::default();
        for (name, value) in values {
            settings.set("-", name, value);
        }
        Bounds::from_settings(&settings.finish()?)
    }

    #[test]
    fn the_defaults_are_those_of_the_machines() {
        let defaults = ShardConfig::new(NodeId::default());
        let mut shard = defaults.clone();
        bounds(&[]).unwrap().apply(&mut shard, 1);
        assert_eq!(format!("{shard:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn each_key_sets_its_bound() {
        let set = |name: &str, value: u64| {
            let mut shard = ShardConfig::new(NodeId::default());
            bounds(&[(name, &value.to_string())]).unwrap().apply(&mut shard, 1);
            shard
        };
        assert_eq!(set("streams.window_bytes", 1 << 18).delivery.window_bytes, 1 << 18);
        assert_eq!(set("streams.outbox_bytes", 1 << 22).delivery.outbox_bytes, 1 << 22);
        assert_eq!(set("streams.memory_bytes", 1 << 26).stream_memory_bytes, 1 << 26);
        assert_eq!(set("links.unacked_bytes", 1 << 23).link.window_bytes, 1 << 23);
        assert_eq!(set("links.credit_bytes", 1 << 23).link.credit_bytes_max, 1 << 23);
        assert_eq!(set("links.queue_bytes", 1 << 23).link.data_bytes_max, 1 << 23);
        assert_eq!(set("links.mark_bytes", 1 << 19).link.mark_bytes, 1 << 19);
    }

    #[test]
    fn what_would_be_dropped_before_it_is_marked_is_refused() {
        assert!(bounds(&[("links.queue_bytes", "4194304")]).is_ok());
        let wrong = bounds(&[("links.queue_bytes", "4194304"), ("links.mark_bytes", "1048577")]);
        let message = wrong.unwrap_err().message;
        for word in ["links.mark_bytes", "links.queue_bytes", "1048576", "found 1048577"] {
            assert!(message.contains(word), "{word} in {message}");
        }
    }
}
