//! Profiles: which processors run which threads, how long they spin, socket buffers. They live in
//! `tuning/profiles/` and are part of the binary.

use std::time::Duration;

use hawser_exchange::Spin;
use serde::Deserialize;

use crate::cli::failure::Failure;

/// Names of the profiles.
pub(crate) const NAMES: &[&str] = &["balanced", "latency", "single-core"];

const SOURCES: [(&str, &str); 3] = [
    ("balanced", include_str!("../../tuning/profiles/balanced.toml")),
    ("latency", include_str!("../../tuning/profiles/latency.toml")),
    ("single-core", include_str!("../../tuning/profiles/single-core.toml")),
];

/// One profile.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) cores: CoreWish,
    pub(crate) shard_spin_us: u64,
    pub(crate) api_spin_us: u64,
    /// 0: the kernel tunes it.
    pub(crate) send_buffer_bytes: u64,
    pub(crate) receive_buffer_bytes: u64,
    /// Heartbeats go out on each lane this often.
    pub(crate) heartbeat_ms: u64,
    /// Each member is probed about this often.
    pub(crate) probe_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    cores: CoresTable,
    spin: SpinTable,
    sockets: SocketsTable,
    links: LinksTable,
    membership: MembershipTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipTable {
    probe_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinksTable {
    heartbeat_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CoresTable {
    control: usize,
    api: Vec<usize>,
    shards: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpinTable {
    shard_us: u64,
    api_us: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketsTable {
    send_buffer_bytes: u64,
    receive_buffer_bytes: u64,
}

impl Profile {
    /// # Errors
    /// If there is none of that name.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let unknown =
            || Failure::config(format!("no profile {name:?}: there are {}", NAMES.join(", ")));
        let (name, source) =
            SOURCES.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        let file: ProfileFile = toml::from_str(source)
            .map_err(|error| Failure::config(format!("profile {name}: {error}")))?;
        let ProfileFile { cores, spin, sockets, links, membership } = file;
        Ok(Self {
            name,
            cores: CoreWish {
                control: Wish::Ordinals(vec![cores.control]),
                api: Wish::Ordinals(cores.api),
                shards: Wish::Ordinals(cores.shards),
            },
            shard_spin_us: spin.shard_us,
            api_spin_us: spin.api_us,
            send_buffer_bytes: sockets.send_buffer_bytes,
            receive_buffer_bytes: sockets.receive_buffer_bytes,
            heartbeat_ms: links.heartbeat_ms,
            probe_ms: membership.probe_ms,
        })
    }
}

/// Where a kind of thread shall run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// By a profile: counted among the processors that the process may use.
    Ordinals(Vec<usize>),
    /// By the operator: as the kernel numbers them, and these or none.
    Processors(Vec<usize>),
}

/// Where all threads shall run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CoreWish {
    pub(crate) control: Wish,
    pub(crate) api: Wish,
    pub(crate) shards: Wish,
}

/// Where all threads run, as the kernel numbers processors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CorePlan {
    /// The control thread runs on any of them; at least one.
    pub(crate) control: Vec<usize>,
    /// One API thread each; at least one.
    pub(crate) api: Vec<usize>,
    /// One shard each; at least one.
    pub(crate) shards: Vec<usize>,
    /// The profile wanted more processors than there are.
    pub(crate) folded: bool,
}

impl CorePlan {
    /// How a thread on `core` looks for work: where it shares the core with another that moves data,
    /// that goes first at every look.
    pub(crate) fn spin_on(&self, core: usize, budget: Duration) -> Spin {
        let threads = self.shards.iter().chain(&self.api).filter(|&&other| other == core).count();
        Spin { budget, shares_core: threads > 1 }
    }
}

impl CoreWish {
    /// With what the operator says in place of the profile's.
    ///
    /// # Errors
    /// If no processor is named for the control thread.
    pub(crate) fn overridden(
        self,
        shards: Option<Vec<usize>>,
        control: Option<Vec<usize>>,
        api: Option<Vec<usize>>,
    ) -> Result<Self, Failure> {
        if control.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::config(
                "cores.control: name the processors that the control thread may run on, one or several",
            ));
        }
        let choose = |list: Option<Vec<usize>>, wish| list.map_or(wish, Wish::Processors);
        Ok(Self {
            control: choose(control, self.control),
            api: choose(api, self.api),
            shards: choose(shards, self.shards),
        })
    }

    /// Puts the wish onto the processors in `usable` (ascending, at least one).
    ///
    /// What a profile wants beyond them is folded: threads that have no processor of their own go
    /// to the control thread's, there are no more shards than processors left for them, and the control
    /// thread runs wherever it finds a processor: it would wait for a shard that moves data, and calls for it.
    ///
    /// # Errors
    /// If the operator named a processor that is not usable.
    pub(crate) fn plan(&self, usable: &[usize]) -> Result<CorePlan, Failure> {
        let mut folded = false;
        let first = usable.first().copied().unwrap_or(0);
        let mut place = |wish: &Wish, key: &str, fallback: usize| match wish {
            Wish::Ordinals(ordinals) => {
                let list: Vec<usize> =
                    ordinals.iter().filter_map(|at| usable.get(*at).copied()).collect();
                folded |= list.len() < ordinals.len();
                Ok(if list.is_empty() { vec![fallback] } else { list })
            }
            Wish::Processors(list) => match list.iter().find(|cpu| !usable.contains(cpu)) {
                Some(cpu) => Err(Failure::config(format!(
                    "{key}: processor {cpu} is not among those that this process may use: {usable:?}"
                ))),
                None => Ok(list.clone()),
            },
        };
        let mut control = place(&self.control, "cores.control", first)?;
        let fallback = control.first().copied().unwrap_or(first);
        let api = place(&self.api, "cores.api", fallback)?;
        let shards = place(&self.shards, "cores.shards", fallback)?;
        if folded && matches!(self.control, Wish::Ordinals(_)) {
            control = usable.to_vec();
        }
        Ok(CorePlan { control, api, shards, folded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(profile: &str, usable: &[usize]) -> CorePlan {
        Profile::named(profile).unwrap().cores.plan(usable).unwrap()
    }

    #[test]
    fn every_profile_is_there() {
        for name in NAMES {
            assert_eq!(Profile::named(name).unwrap().name, *name);
        }
        assert!(Profile::named("fast").unwrap_err().message.contains("single-core"));
    }

    #[test]
    fn a_profile_counts_the_processors_that_it_may_use() {
        let roomy = plan("balanced", &[4, 5, 6, 7, 12, 13, 14]);
        assert_eq!((roomy.control, roomy.folded), (vec![4], false));
        assert_eq!((roomy.api, roomy.shards), (vec![5], vec![6, 7, 12, 13]));
    }

    #[test]
    fn too_few_processors_are_shared() {
        let two = plan("balanced", &[0, 1]);
        assert_eq!((two.control, two.api, two.shards), (vec![0, 1], vec![1], vec![0]));
        assert!(two.folded);
        let one = plan("latency", &[3]);
        assert_eq!((one.control, one.api, one.shards), (vec![3], vec![3], vec![3]));
        let three = plan("balanced", &[0, 1, 2]);
        assert_eq!((three.shards, three.folded), (vec![2], true));
        let single = plan("single-core", &[0, 1]);
        assert_eq!((single.control, single.folded), (vec![0], false));
    }

    #[test]
    fn the_operators_processors_are_taken_or_refused() {
        let wish = Profile::named("balanced").unwrap().cores;
        let explicit = wish.overridden(Some(vec![1, 0]), Some(vec![1]), Some(vec![0])).unwrap();
        let plan = explicit.plan(&[0, 1]).unwrap();
        assert_eq!((plan.control, plan.folded), (vec![1], false));
        assert_eq!((plan.api, plan.shards), (vec![0], vec![1, 0]));
        let several = Profile::named("balanced").unwrap().cores;
        let several = several.overridden(None, Some(vec![1, 0]), None).unwrap();
        assert_eq!(several.plan(&[0, 1]).unwrap().control, [1, 0]);
        assert!(several.overridden(None, Some(Vec::new()), None).is_err());
        let missing = explicit.plan(&[0]).unwrap_err();
        assert!(missing.message.contains("processor 1"), "{missing}");
    }
}
