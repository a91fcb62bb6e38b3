//! Weights of a class: what makes the cost of a path.

use hawser_routing::Weights;

/// The largest weight: with it a link costs what it should up to 4.2 s, down to 0.3 Mbit/s, up to 98 %
/// of loss. Costs beyond are all the same, the largest.
const WEIGHT_MAX: f64 = 1e3;
/// The largest weight of a hop, which is worth a second of latency then, with `latency` at its largest.
const HOP_WEIGHT_MAX: f64 = 1e9;
/// How shares follow the use of links if nothing is said of it: as what is left of them.
const UTILIZATION_WEIGHT: f64 = 1.0;

/// Reads `latency=1,hop=50`: what is not named is 0, but `utilization` is
/// [`UTILIZATION_WEIGHT`]. `None` if it is something else, or if all are 0 that enter a cost.
pub(super) fn parse(text: &str) -> Option<Weights> {
    let mut weights =
        Weights { latency: 0.0, utilization: UTILIZATION_WEIGHT, ..Weights::default() };
    let mut named = Vec::new();
    for entry in text.split(',') {
        let (name, value) = entry.split_once('=')?;
        let (name, value) = (name.trim(), value.trim().parse::<f64>().ok()?);
        let (weight, max) = match name {
            "latency" => (&mut weights.latency, WEIGHT_MAX),
            "bandwidth" => (&mut weights.bandwidth, WEIGHT_MAX),
            "loss" => (&mut weights.loss, WEIGHT_MAX),
            "utilization" => (&mut weights.utilization, WEIGHT_MAX),
            "hop" => (&mut weights.hop, HOP_WEIGHT_MAX),
            _ => return None,
        };
        if named.contains(&name) || !(0.0..=max).contains(&value) {
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
        let plain = Weights { utilization: 1.0, ..Weights::default() };
        assert_eq!(parse("latency=1"), Some(plain));
        assert_eq!(parse("latency=1,utilization=0"), Some(Weights::default()));
        let most = parse("latency=1e3,hop=1e9").unwrap();
        assert_eq!((most.latency, most.hop), (1e3, 1e9));
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
            "latency=1001",
            "loss=1001",
            "bandwidth=1001",
            "hop=1000000001",
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
