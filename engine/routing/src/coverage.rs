//! How much of a node's traffic goes on when a link of its own breaks.

use hawser_wire::TrafficClass;

use crate::backup::Backups;
use crate::graph::{Graph, GraphError, NodeNumber};
use crate::mesh_topology::MeshTopology;
use crate::spf::{ShortestPathTree, SpfWorkspace};

/// What becomes of one node's traffic when the first link of its path breaks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// Nodes that there is a path to, the node itself not counted.
    pub reachable: usize,
    /// Of these the ones without a backup, each with the far end of the first link of its path. If that
    /// is the destination there is no path but that link, else none round this node.
    pub unprotected: Vec<(NodeNumber, NodeNumber)>,
    /// Nodes that there is no path to; who has left is none of them.
    pub unreachable: Vec<NodeNumber>,
}

impl Coverage {
    /// How many destinations have a backup.
    #[must_use]
    pub const fn protected(&self) -> usize {
        self.reachable.saturating_sub(self.unprotected.len())
    }
}

/// Computes [`Coverage`] in one mesh; reused for several sources.
///
/// A destination is covered if there is a backup for the first link of the path that is taken to it:
/// the operator's, if that can be taken, else the best one. A backup cannot loop, as it is a whole path;
/// it avoids the link and, unless that is the destination, the node behind it (see [`Backups`]).
#[derive(Debug)]
pub struct CoverageSurvey<'a> {
    mesh: &'a MeshTopology,
    graph: Graph,
    tree: ShortestPathTree,
    backups: Backups,
    workspace: SpfWorkspace,
    path: Vec<NodeNumber>,
}

impl<'a> CoverageSurvey<'a> {
    /// Looks at `mesh` as `class` sees it.
    ///
    /// # Errors
    /// [`GraphError::TooManyNodes`].
    pub fn new(mesh: &'a MeshTopology, class: TrafficClass) -> Result<Self, GraphError> {
        Ok(Self {
            mesh,
            graph: mesh.topology().graph(class)?,
            tree: ShortestPathTree::default(),
            backups: Backups::default(),
            workspace: SpfWorkspace::default(),
            path: Vec::new(),
        })
    }

    /// The coverage of what `source` sends.
    pub fn coverage(&mut self, source: NodeNumber) -> Coverage {
        let Self { mesh, graph, tree, backups, workspace, path } = self;
        tree.compute(graph, source, workspace);
        backups.compute(graph, tree, workspace);
        let mut coverage = Coverage::default();
        for (to, id) in mesh.members().filter(|&(to, _)| to != source) {
            match mesh.operator_path(source, id) {
                Some(Ok(set)) => *path = set,
                _ => tree.path_into(to, path),
            }
            let Some(&first) = path.get(1) else {
                coverage.unreachable.push(to);
                continue;
            };
            coverage.reachable = coverage.reachable.saturating_add(1);
            if backups.path_into(tree, first, to, path).is_none() {
                coverage.unprotected.push((to, first));
            }
        }
        coverage
    }
}
