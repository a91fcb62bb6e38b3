use std::collections::BTreeMap;

use hawser_wire::{RECORD_BYTES_TARGET, TenantId};

/// However little there is: one record at a time passes.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const _: () = assert!(WINDOW_BYTES_MIN == RECORD_BYTES_TARGET as u64);

/// What all streams that end at one shard may have granted together, and who has how much of it.
///
/// Dynamic thresholds (Choudhury and Hahne, 1998): a stream has at most half of what is left over for its
/// tenant, which is what is left over less what the tenant has. So there is always something for who
/// comes next, and those that want more than there is have like shares: of a budget, one stream has a
/// quarter, two of one tenant a sixth each, those of two tenants a fifth each, and however many one
/// tenant has, they come to less than half. A window that has become too large is not taken back, it is only
/// not extended.
///
/// Invariant: what was allotted stays within the budget, but for [`WINDOW_BYTES_MIN`] of each stream.
#[derive(Debug)]
pub struct WindowBudget {
    total_bytes: u64,
    used_bytes: u64,
    tenants: BTreeMap<TenantId, u64>,
}

impl WindowBudget {
    /// Nothing is allotted.
    #[must_use]
    pub const fn new(total_bytes: u64) -> Self {
        Self { total_bytes, used_bytes: 0, tenants: BTreeMap::new() }
    }

    /// What is allotted, in bytes.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// The window of a stream of `tenant` that would have `wanted_bytes`. `allotted_bytes` is what it
    /// has, and then what it has now: `outstanding_bytes`, which it may spend already, at the least.
    pub(crate) fn allot(
        &mut self,
        tenant: TenantId,
        allotted_bytes: &mut u64,
        wanted_bytes: u64,
        outstanding_bytes: u64,
    ) -> u64 {
        self.release(tenant, allotted_bytes);
        let of_tenant = self.tenants.entry(tenant).or_default();
        let free = self.total_bytes.saturating_sub(self.used_bytes).saturating_sub(*of_tenant);
        // A quarter: what the stream takes is missing twice, and it has half of what is left then.
        let window = wanted_bytes.min(free >> 2).max(WINDOW_BYTES_MIN);
        *allotted_bytes = window.max(outstanding_bytes);
        *of_tenant = of_tenant.saturating_add(*allotted_bytes);
        self.used_bytes = self.used_bytes.saturating_add(*allotted_bytes);
        window
    }

    /// A stream gives back what it has.
    pub(crate) fn release(&mut self, tenant: TenantId, allotted_bytes: &mut u64) {
        let bytes = std::mem::take(allotted_bytes);
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        if let Some(of_tenant) = self.tenants.get_mut(&tenant) {
            *of_tenant = of_tenant.saturating_sub(bytes);
            if *of_tenant == 0 {
                self.tenants.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test that misses fails, as it should")]

    use super::*;

    const MIB: u64 = 1 << 20;
    const TENANTS: [TenantId; 2] = [TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16])];

    /// What streams of these tenants come to that would have all there is.
    fn shares(total: u64, tenants: &[usize]) -> Vec<u64> {
        let mut budget = WindowBudget::new(total);
        let mut shares = vec![0; tenants.len()];
        for _ in 0..2000 {
            for (share, &tenant) in shares.iter_mut().zip(tenants) {
                // All that it may spend it has spent, and consumed.
                budget.allot(TENANTS[tenant], share, u64::MAX, 0);
                assert!(budget.used_bytes() <= total, "{} allotted", budget.used_bytes());
            }
        }
        shares
    }

    #[test]
    fn streams_and_tenants_have_like_shares_and_leave_some_for_who_comes_next() {
        let near =
            |shares: &[u64], mib: u64| shares.iter().all(|s| s.abs_diff(mib * MIB) < MIB / 2);
        for (tenants, mib) in [(&[0][..], 30), (&[0, 0], 20), (&[0, 1], 24), (&[0, 0, 0], 15)] {
            let shares = shares(120 * MIB, tenants);
            assert!(near(&shares, mib), "{tenants:?}: {shares:?}");
        }
        // One with many streams leaves to another one's two what would be theirs anyway.
        let mut tenants = vec![0; 50];
        tenants.extend([1, 1]);
        let many = shares(120 * MIB, &tenants);
        let first: u64 = many[..50].iter().sum();
        assert!(first < 60 * MIB && near(&many[50..], 12), "{first} and {:?}", &many[50..]);
        let (least, most) = (many[..50].iter().min(), many[..50].iter().max());
        assert!(most <= least.map(|least| least + MIB / 8).as_ref(), "{many:?}");
    }

    #[test]
    fn what_may_be_spent_already_counts_until_it_is_and_what_is_given_back_is_free() {
        let mut budget = WindowBudget::new(12 * MIB);
        let (mut first, mut second) = (0, 0);
        assert_eq!(budget.allot(TENANTS[0], &mut first, 4 * MIB, 0), 3 * MIB);
        assert_eq!(budget.allot(TENANTS[0], &mut first, MIB, 4 * MIB), MIB, "not extended");
        assert_eq!((first, budget.used_bytes()), (4 * MIB, 4 * MIB), "and not taken back");
        assert_eq!(budget.allot(TENANTS[1], &mut second, u64::MAX, 0), 2 * MIB);
        budget.release(TENANTS[0], &mut first);
        budget.release(TENANTS[1], &mut second);
        assert_eq!((budget.used_bytes(), budget.tenants.len()), (0, 0));
        let mut none = WindowBudget::new(0);
        assert_eq!(none.allot(TENANTS[0], &mut first, MIB, 0), WINDOW_BYTES_MIN, "one at a time");
    }
}
