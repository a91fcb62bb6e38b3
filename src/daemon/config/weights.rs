//! Weights of a class: what makes the cost of a path.

use hawser_routing::Weights;

/// The largest weight: costs beyond it are all the same, the largest.
const WEIGHT_MAX: f64 = 1e9;

/// Reads `latency=1,hop=50`: what is not named is 0. `None` if it is something else, or if all are 0
/// that enter a cost.
pub(super) fn parse(text: &str) -> Option<Weights> {
    let mut weights = Weights { latency: 0.0, ..Weights::default() };
    let mut named = Vec::new();
    for entry in text.split(',') {
        let (name, value) = entry.split_once('=')?;
        let (name, value) = (name.trim(), value.trim().parse::<f64>().ok()?);
        let weight = match name {
            "latency" => &mut weights.latency,
            "bandwidth" => &mut weights.bandwidth,
            "loss" => &mut weights.loss,
            "utilization" => &mut weights.utilization,
            "hop" => &mut weights.hop,
            _ => return None,
        };
        if named.contains(&name) || !(0.0..=WEIGHT_MAX).contains(&value) {
            return None;
        }
        named.push(name);
        *weight = value;
    }
    let Weights { latency, bandwidth, loss, hop, .. } = weights;
    [latency, bandwidth, loss, hop].iter().any(|weight| *weight > 0.0).then_some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_by_name_and_nonsense_is_refused() {
        assert_eq!(parse("latency=1"), Some(Weights::default()));
        let all = parse("hop = 50, latency=0.5,loss=2,bandwidth=1e3,utilization=1");
        let expected =
            Weights { latency: 0.5, bandwidth: 1000.0, loss: 2.0, utilization: 1.0, hop: 50.0 };
        assert_eq!(all, Some(expected));
        for text in [
            "",
            "latency",
            "latency=",
            "latency=x",
            "latency=-1",
            "latency=nan",
            "latency=inf",
            "latency=1e10",
            "latency=1,latency=2",
            "jitter=1",
            "latency=1,",
            "latency=0",
            "utilization=1",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
