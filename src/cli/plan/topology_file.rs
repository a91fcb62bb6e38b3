//! The topology file: nodes, links, weights and demands as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hawser_routing::{COST_MAX, Demand, LinkMetrics, NodeFlags, Topology, Weights, cost_beyond};
use hawser_wire::TrafficClass;
use serde::Deserialize;

use super::mesh::PlanMesh;
use crate::cli::failure::Failure;

/// Unknown keys are errors, here and below: what is misspelt would silently be as if it were not there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nodes: Vec<NodeEntry>,
    #[serde(default)]
    links: Vec<LinkEntry>,
    #[serde(default)]
    weights: WeightsEntry,
    demands: Option<Vec<DemandEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    id: String,
    #[serde(default)]
    stub: bool,
    #[serde(default)]
    overload: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    a: String,
    b: String,
    latency_us: Option<f64>,
    bandwidth_mbps: Option<f64>,
    loss: Option<f64>,
    utilization: Option<f64>,
    admin: Option<f64>,
    /// What is different on the way back.
    #[serde(default)]
    ba: MetricsEntry,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsEntry {
    latency_us: Option<f64>,
    bandwidth_mbps: Option<f64>,
    loss: Option<f64>,
    utilization: Option<f64>,
    admin: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsEntry {
    control: Option<ClassEntry>,
    priority: Option<ClassEntry>,
    bulk: Option<ClassEntry>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClassEntry {
    latency: f64,
    bandwidth: f64,
    loss: f64,
    utilization: f64,
    hop: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DemandEntry {
    from: String,
    to: String,
    mbps: f64,
}

/// # Errors
/// If the file cannot be read or does not describe a topology: says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<PlanMesh, Failure> {
    let text = fs::read(path).map_err(|error| Failure::file("read", path.display(), &error))?;
    parse(&text).map_err(|wrong| Failure::plain(format!("{}: {wrong}", path.display())))
}

/// Nodes get their numbers in the bytewise order of their ids.
fn parse(text: &[u8]) -> Result<PlanMesh, String> {
    let file: File = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut flags = BTreeMap::new();
    for NodeEntry { id, stub, overload } in file.nodes {
        if let Some((id, _)) = flags.get_key_value(&id) {
            return Err(format!("node {id:?} is there twice"));
        }
        flags.insert(id, NodeFlags { stub, overload, left: false });
    }
    let weights = [file.weights.control, file.weights.priority, file.weights.bulk];
    let mut classes = [Weights::default(); 3];
    for (class, entry) in classes.iter_mut().zip(weights) {
        if let Some(entry) = entry {
            *class = entry.weights()?;
        }
    }
    let topology = Topology::new(flags.values().copied().collect(), classes);
    let ids: Vec<String> = flags.into_keys().collect();
    let numbers = (0..).zip(&ids).map(|(number, id)| (id.clone(), number)).collect();
    let mut mesh = PlanMesh { ids, numbers, topology, demands: None, generation: 0 };
    for link in file.links {
        add_link(&mut mesh, &link)
            .map_err(|wrong| format!("link {:?} - {:?}: {wrong}", link.a, link.b))?;
    }
    if let Some(demands) = file.demands {
        let demands = demands.iter().map(|entry| demand(&mesh, entry));
        mesh.demands = Some(demands.collect::<Result<_, String>>()?);
    }
    Ok(mesh)
}

fn add_link(mesh: &mut PlanMesh, link: &LinkEntry) -> Result<(), String> {
    let LinkEntry { latency_us, bandwidth_mbps, loss, utilization, admin, ba, .. } = *link;
    let ab = MetricsEntry { latency_us, bandwidth_mbps, loss, utilization, admin };
    let ends = (mesh.known(&link.a)?, mesh.known(&link.b)?);
    if ends.0 == ends.1 {
        return Err("both ends are the same node".to_owned());
    }
    let (ab, ba) = (ab.metrics()?, ba.or(ab).metrics()?);
    for class in TrafficClass::ALL {
        for (from, to, metrics) in [(&link.a, &link.b, &ab), (&link.b, &link.a, &ba)] {
            if let Some(cost) = cost_beyond(metrics, mesh.topology.weights(class)) {
                let class = class.name();
                let cost = if cost < 1e15 { cost.to_string() } else { format!("{cost:e}") };
                return Err(format!(
                    "from {from:?} to {to:?} its cost for {class} is {cost}, and must be from 0 to \
                     {COST_MAX}: all weights of {class} may be smaller by the same factor"
                ));
            }
        }
    }
    // Both ends are known and different.
    mesh.topology.add_link(ends, ab, ba).map_err(|_twice| "is there twice".to_owned())
}

fn demand(mesh: &PlanMesh, entry: &DemandEntry) -> Result<Demand, String> {
    let DemandEntry { from, to, mbps } = entry;
    let of = |wrong| format!("demand {from:?} - {to:?}: {wrong}");
    let known = |id| mesh.known(id).map_err(of);
    let mbps = within("mbps", *mbps, 0.0, f64::MAX).map_err(of)?;
    Ok(Demand { from: known(from)?, to: known(to)?, mbps })
}

impl MetricsEntry {
    fn or(self, other: Self) -> Self {
        Self {
            latency_us: self.latency_us.or(other.latency_us),
            bandwidth_mbps: self.bandwidth_mbps.or(other.bandwidth_mbps),
            loss: self.loss.or(other.loss),
            utilization: self.utilization.or(other.utilization),
            admin: self.admin.or(other.admin),
        }
    }

    fn metrics(self) -> Result<LinkMetrics, String> {
        let integer = |name, value: Option<f64>| {
            let value = within(name, value.unwrap_or(0.0), 0.0, f64::from(u32::MAX))?;
            Ok::<_, String>(value.round() as u32)
        };
        let bandwidth =
            self.bandwidth_mbps.map(|mbps| within("bandwidth_mbps", mbps, 0.0, f64::MAX));
        Ok(LinkMetrics {
            latency_us: integer("latency_us", self.latency_us)?,
            bandwidth_mbps: bandwidth.transpose()?,
            loss: within("loss", self.loss.unwrap_or(0.0), 0.0, 1.0)?,
            utilization: within("utilization", self.utilization.unwrap_or(0.0), 0.0, 1.0)?,
            admin: integer("admin", self.admin)?,
        })
    }
}

impl ClassEntry {
    fn weights(self) -> Result<Weights, String> {
        let weight = |name: &str, value| {
            within(name, value, 0.0, f64::MAX).map_err(|wrong| format!("weights: {wrong}"))
        };
        Ok(Weights {
            latency: weight("latency", self.latency)?,
            bandwidth: weight("bandwidth", self.bandwidth)?,
            loss: weight("loss", self.loss)?,
            utilization: weight("utilization", self.utilization)?,
            hop: weight("hop", self.hop)?,
        })
    }
}

fn within(name: &str, value: f64, low: f64, high: f64) -> Result<f64, String> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(match high {
        f64::MAX => format!("{name} is {value}, and must not be below {low}"),
        _ => format!("{name} is {value}, and must be from {low} to {high}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    fn parse(text: &str) -> Result<PlanMesh, String> {
        super::parse(text.as_bytes())
    }

    #[test]
    fn nodes_are_in_bytewise_order_and_metrics_have_defaults() {
        let file = parse(
            r#"{"nodes":[{"id":"b"},{"id":"a,1","stub":true},{"id":"B"},{"id":"é"}],
                "links":[{"a":"b","b":"B","latency_us":5,"loss":0.5,"ba":{"latency_us":7}},
                         {"a":"b","b":"a,1","bandwidth_mbps":10,"admin":2}],
                "weights":{"control":{"hop":1}}, "demands":[]}"#,
        )
        .unwrap();
        assert_eq!(file.ids, ["B", "a,1", "b", "é"]);
        let metrics = |from, to| *file.topology.metrics(from, to).unwrap();
        assert_eq!((metrics(2, 0).latency_us, metrics(2, 0).loss), (5, 0.5));
        assert_eq!((metrics(0, 2).latency_us, metrics(0, 2).loss), (7, 0.5));
        assert_eq!(
            (metrics(2, 0).bandwidth_mbps, metrics(1, 2).bandwidth_mbps),
            (None, Some(10.0))
        );
        let weights = |class| *file.topology.weights(class);
        assert_eq!(weights(TrafficClass::Bulk), Weights::default());
        assert_eq!(
            (weights(TrafficClass::Control).latency, weights(TrafficClass::Control).hop),
            (0.0, 1.0)
        );
        assert_eq!(file.demands, Some(vec![]));
        assert_eq!(file.pair("a,1,b").unwrap(), (1, 2));
        assert_eq!(file.pair("B,a,1").unwrap(), (0, 1));
        assert_eq!(file.pair("B,c").unwrap_err().exit, Exit::NotFound);
        assert_eq!(file.pair("B").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{"nodes":[{"id":"a"},{"id":"b","stub":true},{"id":"c","overload":true}],
            "links":[{"a":"b","b":"a","latency_us":5,"loss":0.5,"ba":{"latency_us":7}},
                     {"a":"c","b":"a","ba":{"bandwidth_mbps":5}},
                     {"a":"b","b":"c","bandwidth_mbps":10,"utilization":0.25,"admin":2}],
            "weights":{"control":{"hop":1},"bulk":{"latency":0.5,"loss":3}},
            "demands":[{"from":"c","to":"a","mbps":2.5}]}"#;
        let mesh = parse(text).unwrap();
        let again = parse(&mesh.file(&mesh.topology).to_string()).unwrap();
        assert_eq!((&again.ids, &again.topology), (&mesh.ids, &mesh.topology));
        assert_eq!(again.demands, mesh.demands);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let nodes = r#""nodes":[{"id":"a"},{"id":"b"}]"#;
        for (text, said) in [
            ("{", "EOF"),
            (r#"{"links":[]}"#, "nodes"),
            (r#"{"nodes":[{"id":"a","Stub":true}]}"#, "unknown field `Stub`, expected one of `id`"),
            (r#"{"nodes":[],"link":[]}"#, "unknown field `link`, expected one of `nodes`, `links`"),
            (r#"{"nodes":[{"id":"a"},{"id":"a"}]}"#, "node \"a\" is there twice"),
            (&format!(r#"{{{nodes},"links":[{{"a":"a","b":"c"}}]}}"#), "no node \"c\""),
            (&format!(r#"{{{nodes},"links":[{{"a":"a","b":"a"}}]}}"#), "same node"),
            (
                &format!(r#"{{{nodes},"links":[{{"a":"a","b":"b"}},{{"a":"b","b":"a"}}]}}"#),
                "is there twice",
            ),
            (&format!(r#"{{{nodes},"links":[{{"a":"a","b":"b","loss":1.5}}]}}"#), "loss is 1.5"),
            (
                &format!(r#"{{{nodes},"links":[{{"a":"a","b":"b","latency_us":-1}}]}}"#),
                "latency_us",
            ),
            (&format!(r#"{{{nodes},"links":[{{"a":"a","b":"b","latency":1}}]}}"#), "unknown field"),
            (&format!(r#"{{{nodes},"weights":{{"bulk":{{"hop":-1}}}}}}"#), "hop is -1"),
            (&format!(r#"{{{nodes},"demands":[{{"from":"a","to":"x","mbps":1}}]}}"#), "\"x\""),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_link_that_would_cost_more_than_can_be_is_refused_with_the_range() {
        let file = |weights: &str, link: &str| {
            format!(
                r#"{{"nodes":[{{"id":"a"}},{{"id":"b"}}],"weights":{{"priority":{{{weights}}}}},
                    "links":[{{"a":"a","b":"b",{link}}}]}}"#
            )
        };
        let dear = [
            (r#""latency":100000"#, r#""latency_us":1,"ba":{"latency_us":50000}"#, "5000000000"),
            (r#""hop":4294967296"#, r#""latency_us":1"#, "4294967296"),
            (r#""bandwidth":1"#, r#""bandwidth_mbps":0"#, "inf"),
            (r#""loss":1"#, r#""loss":1"#, "inf"),
        ];
        for (weights, link, cost) in dear {
            let wrong = parse(&file(weights, link)).unwrap_err();
            for said in ["link \"a\" - \"b\"", "priority", cost, "4294967295"] {
                assert!(wrong.contains(said), "{said} in {wrong}");
            }
        }
        parse(&file(r#""latency":100000"#, r#""latency_us":42949"#)).unwrap();
        parse(&file(r#""hop":4294967295"#, r#""latency_us":1"#)).unwrap();
    }
}
