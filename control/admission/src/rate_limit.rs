//! Token buckets per remote address, in a table of bounded size.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hawser_wire::MonoTime;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Addresses that are told apart; the rest share one bucket.
const ADDRESSES_MAX: usize = 4096;
/// The table is searched for idle addresses at most so often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// What to do with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Admit,
    /// `first` since the address was last admitted: a flood is reported once.
    Refuse {
        first: bool,
    },
}

/// Admits each address so many times per second, and as many times at once.
///
/// The table never exceeds [`ADDRESSES_MAX`]: an address that has a full bucket again is
/// forgotten, which changes nothing for it; while the table is full of busy ones, new addresses
/// share one bucket, so that a flood from many addresses cannot push out anyone's count.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: u64,
    buckets: BTreeMap<IpAddr, Bucket>,
    overflow: Bucket,
    swept_at: MonoTime,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it will be full again; each admission moves this by one interval (GCRA).
    full_at: MonoTime,
    refusing: bool,
}

impl RateLimiter {
    /// `per_second` admissions per address; 0 admits none.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second: u64::from(per_second),
            buckets: BTreeMap::new(),
            overflow: Bucket::FULL,
            swept_at: MonoTime::ZERO,
        }
    }

    pub(crate) const fn per_second(&self) -> u64 {
        self.per_second
    }

    pub(crate) fn admit(&mut self, now: MonoTime, address: IpAddr) -> Verdict {
        let key = bucket_key(address);
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&key) {
            self.sweep(now);
        }
        let per_second = self.per_second;
        let room = self.buckets.len() < ADDRESSES_MAX;
        let bucket = match self.buckets.get_mut(&key) {
            Some(bucket) => bucket,
            None if room => self.buckets.entry(key).or_insert(Bucket::FULL),
            None => &mut self.overflow,
        };
        bucket.admit(now, per_second)
    }

    fn sweep(&mut self, now: MonoTime) {
        if now.saturating_since(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
    }
}

impl Bucket {
    const FULL: Self = Self { full_at: MonoTime::ZERO, refusing: false };

    fn admit(&mut self, now: MonoTime, per_second: u64) -> Verdict {
        let interval_nanos = NANOS_PER_SECOND.checked_div(per_second);
        let full_at = interval_nanos
            .map(|nanos| self.full_at.max(now).saturating_add(Duration::from_nanos(nanos)));
        match full_at {
            Some(full_at) if full_at.saturating_since(now) <= Duration::from_secs(1) => {
                *self = Self { full_at, refusing: false };
                Verdict::Admit
            }
            _ => {
                let first = !self.refusing;
                self.refusing = true;
                Verdict::Refuse { first }
            }
        }
    }
}

/// The address that limits count by: one subscriber has a whole /64 of IPv6 addresses.
pub(crate) fn bucket_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mask = u128::MAX << 64;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn at_millis(millis: u64) -> MonoTime {
        MonoTime::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    fn admitted(limiter: &mut RateLimiter, now: MonoTime, address: IpAddr, tries: u32) -> usize {
        (0..tries).filter(|_| limiter.admit(now, address) == Verdict::Admit).count()
    }

    #[test]
    fn burst_then_rate() {
        let mut limiter = RateLimiter::new(50);
        assert_eq!(admitted(&mut limiter, at_millis(0), A, 200), 50);
        assert_eq!(admitted(&mut limiter, at_millis(19), A, 200), 0);
        assert_eq!(admitted(&mut limiter, at_millis(20), A, 200), 1);
        assert_eq!(admitted(&mut limiter, at_millis(520), A, 200), 25);
        assert_eq!(admitted(&mut limiter, at_millis(60_000), A, 200), 50);
    }

    #[test]
    fn addresses_do_not_affect_each_other() {
        let mut limiter = RateLimiter::new(10);
        assert_eq!(admitted(&mut limiter, at_millis(0), A, 100), 10);
        assert_eq!(admitted(&mut limiter, at_millis(0), B, 100), 10);
    }

    #[test]
    fn flood_is_reported_once_per_spell() {
        let mut limiter = RateLimiter::new(1);
        assert_eq!(limiter.admit(at_millis(0), A), Verdict::Admit);
        assert_eq!(limiter.admit(at_millis(0), A), Verdict::Refuse { first: true });
        assert_eq!(limiter.admit(at_millis(1), A), Verdict::Refuse { first: false });
        assert_eq!(limiter.admit(at_millis(1000), A), Verdict::Admit);
        assert_eq!(limiter.admit(at_millis(1001), A), Verdict::Refuse { first: true });
    }

    #[test]
    fn mapped_and_neighbouring_addresses_are_one() {
        let mut limiter = RateLimiter::new(1);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(limiter.admit(at_millis(0), A), Verdict::Admit);
        assert_ne!(limiter.admit(at_millis(0), mapped), Verdict::Admit);
        let (one, same_net, other_net) = ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1");
        assert_eq!(limiter.admit(at_millis(0), one.parse().unwrap()), Verdict::Admit);
        assert_ne!(limiter.admit(at_millis(0), same_net.parse().unwrap()), Verdict::Admit);
        assert_eq!(limiter.admit(at_millis(0), other_net.parse().unwrap()), Verdict::Admit);
    }

    #[test]
    fn zero_admits_none() {
        let mut limiter = RateLimiter::new(0);
        assert_eq!(limiter.admit(at_millis(0), A), Verdict::Refuse { first: true });
    }

    #[test]
    fn table_is_bounded_and_a_flood_pushes_nobody_out() {
        let mut limiter = RateLimiter::new(2);
        assert_eq!(admitted(&mut limiter, at_millis(0), A, 5), 2);
        for bits in 0..20_000 {
            limiter.admit(at_millis(0), IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + bits)));
        }
        assert!(limiter.buckets.len() <= ADDRESSES_MAX);
        assert_eq!(admitted(&mut limiter, at_millis(0), A, 5), 0, "the count was kept");
        // New addresses share one bucket while the table is full, and get their own afterwards.
        assert_eq!(admitted(&mut limiter, at_millis(0), B, 5), 0);
        assert_eq!(admitted(&mut limiter, at_millis(2_000), B, 5), 2);
        assert!(limiter.buckets.len() < 10, "idle addresses are forgotten");
    }
}
