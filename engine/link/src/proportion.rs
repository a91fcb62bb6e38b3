//! Rule of three over 64-bit numbers.

/// `value` × `times` ÷ `by`, rounded down, at most `u64::MAX`; `None` if `by` is 0.
///
/// Exact: what does not fit into 64 bits goes through 128, which a processor divides by calling a
/// function. Rates and windows are computed for each message and nearly always fit.
pub(crate) fn proportion(value: u64, times: u64, by: u64) -> Option<u64> {
    if let Some(product) = value.checked_mul(times) {
        return product.checked_div(by);
    }
    let product = u128::from(value).saturating_mul(u128::from(times));
    let exact = product.checked_div(u128::from(by))?;
    Some(u64::try_from(exact).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_come_to_the_same() {
        assert_eq!(proportion(7, 3, 2), Some(10));
        assert_eq!(proportion(u64::MAX, 3, 6), Some(u64::MAX / 2));
        assert_eq!(proportion(u64::MAX, 3, 2), Some(u64::MAX), "more than fits");
        assert_eq!(proportion(1 << 40, 1 << 40, 1 << 30), Some(1 << 50));
        assert_eq!((proportion(1, 1, 0), proportion(u64::MAX, 2, 0)), (None, None));
    }
}
