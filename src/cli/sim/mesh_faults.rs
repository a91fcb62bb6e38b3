//! The argument of `--faults`.

use hawser_sim::{LOSS_PPM_MAX, MeshFaults};

/// Most faults of a kind.
const COUNT_MAX: u32 = 10_000;

/// Reads `link-cut=N,node-kill=N,partition=N,loss=P`, each at most once and in any order; what is
/// not named does not happen. The same text, with a name once more, is an error.
///
/// # Errors
/// A sentence that names what is wrong and what is allowed.
pub(super) fn parse(text: &str) -> Result<MeshFaults, String> {
    let mut faults = MeshFaults::default();
    let mut named: Vec<&str> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("{part:?} has no value: write {part}=N"));
        };
        if named.contains(&name) {
            return Err(format!("{name} is there twice"));
        }
        named.push(name);
        match name {
            "link-cut" => faults.link_cuts = count(name, value)?,
            "node-kill" => faults.node_kills = count(name, value)?,
            "partition" => faults.partitions = count(name, value)?,
            "loss" => faults.loss_ppm = loss(value)?,
            _ => {
                return Err(format!(
                    "no fault {name:?}; there are link-cut, node-kill, partition and loss"
                ));
            }
        }
    }
    Ok(faults)
}

fn count(name: &str, value: &str) -> Result<u32, String> {
    let count = value.parse().ok().filter(|count| *count <= COUNT_MAX);
    count.ok_or_else(|| format!("{name} is {value:?}, and must be a number from 0 to {COUNT_MAX}"))
}

fn loss(value: &str) -> Result<u32, String> {
    let most = f64::from(LOSS_PPM_MAX) / 1e6;
    let share = value.parse().ok().filter(|share| (0.0..=most).contains(share));
    let share: f64 = share.ok_or_else(|| {
        format!("loss is {value:?}, and must be a share of the messages from 0 to {most}")
    })?;
    Ok((share * 1e6).round() as u32)
}

/// The shortest text that [`parse`] reads as these.
pub(super) fn text(faults: &MeshFaults) -> String {
    let loss = f64::from(faults.loss_ppm) / 1e6;
    let counts = [
        ("link-cut", f64::from(faults.link_cuts)),
        ("node-kill", f64::from(faults.node_kills)),
        ("partition", f64::from(faults.partitions)),
        ("loss", loss),
    ];
    let named = counts.iter().filter(|(_, value)| *value > 0.0);
    let parts: Vec<String> = named.map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written() {
        for (written, read, again) in [
            ("", MeshFaults::default(), ""),
            (
                "loss=0.05,link-cut=3",
                MeshFaults { link_cuts: 3, loss_ppm: 50_000, ..MeshFaults::default() },
                "link-cut=3,loss=0.05",
            ),
            (
                "node-kill=1,partition=2,loss=0",
                MeshFaults { node_kills: 1, partitions: 2, ..MeshFaults::default() },
                "node-kill=1,partition=2",
            ),
        ] {
            let faults = parse(written).unwrap();
            assert_eq!(faults, read);
            assert_eq!(text(&faults), again);
            assert_eq!(parse(again), Ok(read));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (written, said) in [
            ("link-cut", "write link-cut=N"),
            ("link-cut=x", "from 0 to 10000"),
            ("link-cut=-1", "from 0 to 10000"),
            ("link-cut=10001", "from 0 to 10000"),
            ("loss=0.31", "from 0 to 0.3"),
            ("loss=-0.1", "from 0 to 0.3"),
            ("loss=NaN", "from 0 to 0.3"),
            ("loss=5%", "from 0 to 0.3"),
            ("cut=1", "there are link-cut, node-kill, partition and loss"),
            ("loss=0,loss=0", "loss is there twice"),
        ] {
            let wrong = parse(written).unwrap_err();
            assert!(wrong.contains(said), "{written}: {wrong}");
        }
    }
}
