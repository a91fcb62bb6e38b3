use std::time::Duration;

use super::millis;
use crate::TokenBucket;

#[test]
fn a_burst_then_a_rate() {
    let mut bucket = TokenBucket::new(3, Duration::from_millis(100));
    let mut taken = Vec::new();
    for ms in 1000..1500 {
        if bucket.take(millis(ms)) {
            taken.push(ms);
        }
    }
    assert_eq!(taken, [1000, 1001, 1002, 1100, 1200, 1300, 1400]);
    assert!(!bucket.has_token(millis(1499)));
    assert_eq!(bucket.ready_at(), millis(1500));
}

#[test]
fn it_holds_no_more_than_its_burst_and_time_that_goes_back_gains_nothing() {
    let mut bucket = TokenBucket::new(2, Duration::from_millis(100));
    let burst = |bucket: &mut TokenBucket, ms| (0..9).filter(|_| bucket.take(millis(ms))).count();
    assert_eq!(burst(&mut bucket, 60_000), 2, "after a long rest");
    assert_eq!(burst(&mut bucket, 10), 0, "the clock was set back");
    assert_eq!(burst(&mut bucket, 60_099), 0);
    assert_eq!(burst(&mut bucket, 60_100), 1);
}
