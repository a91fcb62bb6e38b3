use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tokio::task;

use crate::rate_limit::bucket_key;

/// Handshakes under way: so many in all, and half of them at most from one address, so that one
/// that opens connections and stays silent cannot keep the others out.
#[derive(Debug)]
pub(crate) struct Slots {
    max: usize,
    per_address_max: usize,
    by_task: HashMap<task::Id, IpAddr>,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoSlot {
    InAll { max: usize },
    OfAddress { max: usize },
}

impl Slots {
    /// At least one.
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            max,
            per_address_max: max.div_ceil(2),
            by_task: HashMap::new(),
            by_address: BTreeMap::new(),
        }
    }

    /// # Errors
    /// [`NoSlot`]; nothing changes in either case.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), NoSlot> {
        if self.by_task.len() >= self.max {
            return Err(NoSlot::InAll { max: self.max });
        }
        if self.by_address.get(&bucket_key(address)).is_some_and(|n| *n >= self.per_address_max) {
            return Err(NoSlot::OfAddress { max: self.per_address_max });
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, task: task::Id, address: IpAddr) {
        let key = bucket_key(address);
        self.by_task.insert(task, key);
        *self.by_address.entry(key).or_insert(0) += 1;
    }

    pub(crate) fn free(&mut self, task: task::Id) {
        let Some(key) = self.by_task.remove(&task) else { return };
        if let Some(count) = self.by_address.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn one_address_gets_half_and_all_get_the_rest() {
        let (mut slots, mut tasks) = (Slots::new(4), JoinSet::new());
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        let mut take = |slots: &mut Slots, address| {
            slots.check(address)?;
            let id = tasks.spawn(std::future::ready(())).id();
            slots.take(id, address);
            Ok(id)
        };
        let first = take(&mut slots, a).unwrap();
        take(&mut slots, a).unwrap();
        assert_eq!(take(&mut slots, a), Err(NoSlot::OfAddress { max: 2 }));
        take(&mut slots, b).unwrap();
        take(&mut slots, c).unwrap();
        assert_eq!(take(&mut slots, b), Err(NoSlot::InAll { max: 4 }));
        slots.free(first);
        slots.free(first);
        take(&mut slots, a).unwrap();
        assert_eq!(slots.by_address.len(), 3);
    }

    #[tokio::test]
    async fn freed_addresses_are_forgotten() {
        let (mut slots, mut tasks) = (Slots::new(0), JoinSet::new());
        let address = "2001:db8::1".parse().unwrap();
        let id = tasks.spawn(std::future::ready(())).id();
        slots.take(id, address);
        assert_eq!(slots.check(address), Err(NoSlot::InAll { max: 1 }));
        slots.free(id);
        assert!(slots.by_address.is_empty() && slots.by_task.is_empty());
    }
}
