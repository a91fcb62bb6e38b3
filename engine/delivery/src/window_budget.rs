use std::collections::BTreeMap;

use hawser_wire::{RECORD_BYTES_TARGET, TenantId};

/// However little there is: one record at a time passes.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
#[expect(clippy::as_conversions, reason = "u64::try_from is not const")]
const _: () = assert!(WINDOW_BYTES_MIN == RECORD_BYTES_TARGET as u64);

/// What all streams that end at one shard may have granted together, and who has how much of it.
///
/// Dynamic thresholds (Choudhury and Hahne, 1998), twice: a tenant has at most four times what is left
/// over, and each of its streams at most what its tenant may still have. So there is always something for
/// who comes next, and those that want more than there is have like shares: of a budget, one stream has
/// two thirds, two of one tenant four elevenths each, those of two tenants two fifths each; however many
/// one tenant has, they come to less than four fifths. A window that has become too large is not taken
/// back, it is only not extended.
///
/// It bounds what is sent ahead of consumers. What they were handed and have not confirmed counts while it
/// is held, but no stream is stopped for it, and a stream that rests counts with what it holds
/// alone (`rest`): what was allotted may come to more than the budget, by
/// what all that was granted beyond it allows, and by 64 KiB for each stream.
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
        let of_tenant = self.tenants.get(&tenant).copied().unwrap_or_default();
        let free = self.total_bytes.saturating_sub(self.used_bytes);
        let room = free.saturating_mul(4).saturating_sub(of_tenant);
        // A sixth: what the stream takes is missing four times in what its tenant may have, once as what
        // that has, and it is to have as much as remains.
        let window = wanted_bytes.min(room / 6).max(WINDOW_BYTES_MIN);
        self.take(tenant, allotted_bytes, window.max(outstanding_bytes));
        window
    }

    /// A stream carries nothing at present: it counts with the `held_bytes` of it that are here, and the
    /// least window. What else it was granted it may spend all the same.
    pub(crate) fn rest(&mut self, tenant: TenantId, allotted_bytes: &mut u64, held_bytes: u64) {
        self.release(tenant, allotted_bytes);
        self.take(tenant, allotted_bytes, held_bytes.saturating_add(WINDOW_BYTES_MIN));
    }

    /// What a stream that has nothing has from now on.
    fn take(&mut self, tenant: TenantId, allotted_bytes: &mut u64, bytes: u64) {
        *allotted_bytes = bytes;
        self.used_bytes = self.used_bytes.saturating_add(bytes);
        let of_tenant = self.tenants.entry(tenant).or_default();
        *of_tenant = of_tenant.saturating_add(bytes);
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
        let near = |shares: &[u64], mib: u64| shares.iter().all(|s| s.abs_diff(mib * MIB) < MIB);
        for (tenants, mib) in [(&[0][..], 220), (&[0, 0], 120), (&[0, 1], 132), (&[0, 0, 0], 82)] {
            let shares = shares(330 * MIB, tenants);
            assert!(near(&shares, mib), "{tenants:?}: {shares:?}");
        }
        // One with many streams leaves to another one's two what would be theirs anyway.
        let mut tenants = vec![0; 50];
        tenants.extend([1, 1]);
        let many = shares(330 * MIB, &tenants);
        let first: u64 = many[..50].iter().sum();
        let second: u64 = many[50..].iter().sum();
        assert!(first < 172 * MIB && second > 115 * MIB, "{first} and {second}");
        let (least, most) = (many[..50].iter().min(), many[..50].iter().max());
        assert!(most <= least.map(|least| least + MIB / 2).as_ref(), "{many:?}");
    }

    #[test]
    fn one_tenant_alone_has_most_of_it() {
        for count in [1, 2, 10, 100] {
            let all: u64 = shares(330 * MIB, &vec![0; count]).iter().sum();
            assert!((220 * MIB..270 * MIB).contains(&all), "{count} streams have {all}");
        }
    }

    #[test]
    fn one_that_rests_counts_with_what_it_holds_until_it_goes_on() {
        let mut budget = WindowBudget::new(12 * MIB);
        let (mut first, mut second) = (0, 0);
        budget.allot(TENANTS[0], &mut first, 8 * MIB, 8 * MIB);
        assert_eq!(budget.allot(TENANTS[0], &mut second, MIB, 0), MIB);
        budget.rest(TENANTS[0], &mut first, MIB);
        assert_eq!((first, budget.used_bytes()), (MIB + WINDOW_BYTES_MIN, first + MIB));
        budget.allot(TENANTS[0], &mut first, 8 * MIB, 8 * MIB);
        assert_eq!(budget.used_bytes(), 9 * MIB);
    }

    #[test]
    fn what_may_be_spent_already_counts_until_it_is_and_what_is_given_back_is_free() {
        let mut budget = WindowBudget::new(12 * MIB);
        let (mut first, mut second) = (0, 0);
        assert_eq!(budget.allot(TENANTS[0], &mut first, 9 * MIB, 0), 8 * MIB);
        assert_eq!(budget.allot(TENANTS[0], &mut first, MIB, 6 * MIB), MIB, "not extended");
        assert_eq!((first, budget.used_bytes()), (6 * MIB, 6 * MIB), "and not taken back");
        assert_eq!(budget.allot(TENANTS[1], &mut second, u64::MAX, 0), 4 * MIB);
        budget.release(TENANTS[0], &mut first);
        budget.release(TENANTS[1], &mut second);
        assert_eq!((budget.used_bytes(), budget.tenants.len()), (0, 0));
        // Who has given back all has nothing of others' to give back.
        budget.allot(TENANTS[0], &mut second, MIB, 0);
        budget.release(TENANTS[0], &mut first);
        assert_eq!(budget.used_bytes(), MIB);
        budget.release(TENANTS[0], &mut second);
        let mut none = WindowBudget::new(0);
        assert_eq!(none.allot(TENANTS[0], &mut first, MIB, 0), WINDOW_BYTES_MIN, "one at a time");
    }
}
