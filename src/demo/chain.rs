//! The demo's mesh: a chain of node processes, the first and the last of which only dial.

use std::path::Path;
use std::time::Duration;

use hawser_proto::v1::{IssueTokenReq, JoinMeshReq, MeshStatus, SeedMeshReq};
use tempfile::TempDir;

use super::node::{DemoNode, NodePlan, free_address};
use super::{STREAM, VICTIM, poll_until};
use crate::cli::failure::Failure;
use crate::daemon::usable_processors;

/// How long the nodes may take to find each other.
const SETTLE_PATIENCE: Duration = Duration::from_secs(15);
/// Somebody else may take a free port before a node does: so often another one is tried.
const PORT_ATTEMPTS: usize = 4;
/// Longest directory below which the sockets of all nodes have names that the system takes.
const PARENT_BYTES_MAX: usize = 80;

/// The processes and their directories. Dropped, all of them are gone.
#[derive(Debug)]
pub(super) struct Chain {
    // In this order: processes end before their directories go.
    pub(super) nodes: Vec<DemoNode>,
    directory: Option<TempDir>,
}

impl Chain {
    /// Starts `count` nodes (at least 3), makes a mesh of them, and waits until the ends can reach
    /// each other along the chain.
    ///
    /// # Errors
    /// Whatever a node says.
    pub(super) async fn start(count: usize) -> Result<Self, Failure> {
        let directory = make_directory()?;
        let mut chain = Self { nodes: Vec::new(), directory: Some(directory) };
        let settled = chain.form(count).await;
        settled.map_err(|failure| chain.with_logs(failure))?;
        Ok(chain)
    }

    async fn form(&mut self, count: usize) -> Result<(), Failure> {
        let processors = usable_processors()?;
        let core = |at: usize| processors.get(at % processors.len().max(1)).copied().unwrap_or(0);
        let parent = self.parent()?.to_path_buf();
        for at in 0..count {
            let listen = if at == VICTIM { Some(free_address()?) } else { None };
            let cores = (core(at), core(at + 1));
            let plan = NodePlan { name: node_name(at), listen, dial: Vec::new(), cores };
            self.nodes.push(DemoNode::spawn(&parent, plan)?);
        }
        for at in (0..count).filter(|at| *at != VICTIM) {
            self.node(at)?.ready().await?;
        }
        self.seed().await?;
        for at in (0..count).filter(|at| *at != VICTIM) {
            self.join(at).await?;
        }
        if count > 3 {
            // All have joined at one node, and would keep links to it: they start again as a chain,
            // and the port where they joined stays closed.
            self.line_up(count).await?;
        }
        self.settle(count).await
    }

    /// Makes the relay the first of the mesh. Its port may have been taken since it was chosen.
    async fn seed(&mut self) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let relay = self.node(VICTIM)?;
            let seeded = async {
                relay.ready().await?;
                let request = SeedMeshReq { name: "demo".to_owned(), description: String::new() };
                relay.target().mesh().await?.seed_mesh(request).await?;
                Ok::<(), Failure>(())
            }
            .await;
            match seeded {
                Ok(()) => return Ok(()),
                Err(failure) if attempt == PORT_ATTEMPTS => return Err(failure),
                Err(_perhaps_the_port) => {
                    attempt += 1;
                    let _ended_already = relay.kill();
                    let plan = NodePlan { listen: Some(free_address()?), ..relay.plan.clone() };
                    relay.restart(plan)?;
                }
            }
        }
    }

    async fn join(&mut self, at: usize) -> Result<(), Failure> {
        let mut authority = self.node(VICTIM)?.target().mesh().await?;
        let issued = authority.issue_token(IssueTokenReq::default()).await?.into_inner();
        let request = JoinMeshReq { token: issued.token, address: String::new() };
        let node = self.node(at)?;
        let joined = node.target().mesh().await?.join_mesh(request).await;
        joined.map_err(|status| node.with_log(Failure::from(status)))?;
        Ok(())
    }

    async fn line_up(&mut self, count: usize) -> Result<(), Failure> {
        for node in &self.nodes {
            node.terminate();
        }
        let mut previous: Option<String> = None;
        let mut plans = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.ended().await;
            let ends = at == 0 || at + 1 == count;
            let listen = if ends { None } else { Some(free_address()?) };
            let dial = previous.take().into_iter().collect();
            previous.clone_from(&listen);
            plans.push(NodePlan { listen, dial, ..node.plan.clone() });
        }
        // The first dials forwards, because it accepts nothing.
        let second = plans.get(1).and_then(|plan| plan.listen.clone());
        if let Some(first) = plans.first_mut() {
            first.dial.extend(second);
        }
        for (node, plan) in self.nodes.iter_mut().zip(plans) {
            node.restart(plan)?;
        }
        for node in &mut self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    /// Waits until each end has a path of the whole length to the other.
    async fn settle(&mut self, count: usize) -> Result<(), Failure> {
        let last = count.saturating_sub(1);
        for (here, there) in [(0, node_name(last)), (last, node_name(0))] {
            let target = self.node(here)?.target();
            let mesh = target.mesh().await?;
            let reached = poll_until(SETTLE_PATIENCE, || {
                let (mut mesh, there) = (mesh.clone(), there.clone());
                async move {
                    let status = mesh.get_mesh_status(()).await?.into_inner();
                    Ok(reaches(&status, &there, last).then_some(()))
                }
            });
            reached.await.map_err(|failure| {
                failure
                    .at(format!("node {} does not reach {there} along the chain", node_name(here)))
            })?;
        }
        Ok(())
    }

    pub(super) fn node(&mut self, at: usize) -> Result<&mut DemoNode, Failure> {
        self.nodes.get_mut(at).ok_or_else(|| Failure::plain("the chain is too short"))
    }

    pub(super) fn last(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    /// A directory for the demo's own files.
    pub(super) fn parent(&self) -> Result<&Path, Failure> {
        let directory = self.directory.as_ref();
        directory.map(TempDir::path).ok_or_else(|| Failure::plain("the directory is gone"))
    }

    /// Who dials whom.
    pub(super) fn picture(&self) -> String {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.plan.name.as_str()).collect();
        let Some(((first, middle), last)) = names.split_first().and_then(|(first, rest)| {
            rest.split_last().map(|(last, middle)| ((first, middle), last))
        }) else {
            return String::new();
        };
        let middle = middle.join(" <- ");
        format!("{first} -> {middle} <- {last}; {first} and {last} accept no connection")
    }

    /// `failure`, with what each node said last.
    pub(super) fn with_logs(&self, failure: Failure) -> Failure {
        self.nodes.iter().fold(failure, |mut failure, node| {
            let said = node.with_log(Failure::plain(""));
            failure.message.push('\n');
            failure.message.push_str(&said.message);
            failure
        })
    }

    /// Ends all nodes in good order.
    pub(super) async fn stop(&mut self) {
        for node in &self.nodes {
            node.terminate();
        }
        for node in &mut self.nodes {
            node.ended().await;
        }
    }

    /// Lets the nodes go on, and says what can be done with them.
    ///
    /// # Errors
    /// If a node cannot be told.
    pub(super) fn keep(&mut self) -> Result<String, Failure> {
        for node in &mut self.nodes {
            node.release()?;
        }
        let Some(directory) = self.directory.take().map(TempDir::keep) else {
            return Ok(String::new());
        };
        let program = std::env::current_exe()
            .map_or_else(|_gone| "hawser".to_owned(), |path| path.display().to_string());
        let data_dir = |at: usize| {
            self.nodes.get(at).map(|node| node.data_dir().display().to_string()).unwrap_or_default()
        };
        let (first, last) = (data_dir(0), data_dir(self.last()));
        let pids: Vec<String> = self.nodes.iter().map(|node| node.pid().to_string()).collect();
        let last_name = node_name(self.last());
        Ok(format!(
            "\nThe mesh runs on. To try next:\n\
             \x20 {program} mesh status --data-dir {first}\n\
             \x20 {program} lane ls --data-dir {first}\n\
             \x20 {program} stream ls --data-dir {last}\n\
             \x20 {program} stream open talk --to {last_name} --data-dir {first}\n\
             \x20 echo hello | {program} stream pub talk --data-dir {first}\n\
             \x20 {program} stream sub talk --count 1 --data-dir {last}\n\
             The files went over the stream {STREAM:?}. To end it:\n\
             \x20 kill {}; sleep 2; rm -rf {}",
            pids.join(" "),
            directory.display(),
        ))
    }
}

fn reaches(status: &MeshStatus, there: &str, hops: usize) -> bool {
    status
        .nodes
        .iter()
        .any(|node| node.name == there && node.reachable && usize::try_from(node.hops) == Ok(hops))
}

/// a, b, c and so on.
pub(super) fn node_name(at: usize) -> String {
    let letter = u8::try_from(at).ok().and_then(|at| b'a'.checked_add(at)).unwrap_or(b'z');
    char::from(letter).to_string()
}

fn make_directory() -> Result<TempDir, Failure> {
    let failed = |error| Failure::plain(format!("cannot make a temporary directory: {error}"));
    let mut builder = tempfile::Builder::new();
    builder.prefix("hawser-demo-");
    let directory = builder.tempdir().map_err(failed)?;
    if directory.path().as_os_str().len() <= PARENT_BYTES_MAX {
        return Ok(directory);
    }
    builder.tempdir_in("/tmp").map_err(failed)
}
