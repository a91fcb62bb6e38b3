use std::fmt;

use hawser_wire::MeshId;
use zeroize::Zeroizing;

use crate::codec::{RecordReader, RecordWriter};
use crate::database::{META, Outcome};
use crate::{Store, StoreError, eviction, lane_rule, member, operator_route, peer, stream, token};

const META_MESH: &str = "mesh";

/// The mesh that this node is in.
#[derive(Clone, Eq, PartialEq)]
pub struct MeshRecord {
    /// The mesh.
    pub mesh: MeshId,
    /// Its human name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// This node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The mesh authority's certificate, DER.
    pub authority: Vec<u8>,
    /// The authority's key, PKCS#8, at a node that may sign.
    pub authority_key: Option<Zeroizing<Vec<u8>>>,
    /// The operator stopped it.
    pub stopped: bool,
}

impl fmt::Debug for MeshRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshRecord")
            .field("mesh", &self.mesh)
            .field("name", &self.name)
            .field("is_authority", &self.authority_key.is_some())
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The mesh, if this node is in one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mesh(&self) -> Result<Option<MeshRecord>, StoreError> {
        self.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let Some(record) = meta.get(META_MESH)? else { return Ok(None) };
            let mut reader = RecordReader::new(record.value(), "mesh record")?;
            let mesh = MeshRecord {
                mesh: MeshId::from_bytes(reader.id()?),
                name: reader.text()?,
                description: reader.text()?,
                certificate: reader.blob()?.to_vec(),
                authority: reader.blob()?.to_vec(),
                authority_key: if reader.flag()? {
                    Some(Zeroizing::new(reader.blob()?.to_vec()))
                } else {
                    None
                },
                stopped: reader.flag()?,
            };
            reader.finish()?;
            Ok(Some(mesh))
        })
    }

    /// Sets the mesh.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_mesh(&self, mesh: &MeshRecord) -> Result<(), StoreError> {
        let record = RecordWriter::new()
            .id(mesh.mesh.as_bytes())
            .text(&mesh.name)
            .text(&mesh.description)
            .blob(&mesh.certificate)
            .blob(&mesh.authority)
            .u8(u8::from(mesh.authority_key.is_some()));
        let record = match &mesh.authority_key {
            Some(key) => record.blob(key),
            None => record,
        };
        let record = record.u8(u8::from(mesh.stopped));
        self.write(|transaction| {
            transaction.open_table(META)?.insert(META_MESH, record.as_bytes())?;
            Ok(Outcome::Changed(()))
        })
    }

    /// Leaves the mesh: forgets it with its tokens, members, evictions, addresses, operators' paths and
    /// lane rules, streams and consumers, all at once. The node's identity, boot counter and adjacency indices stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn clear_mesh(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(META)?.remove(META_MESH)?;
            transaction.open_table(token::TOKENS)?.retain(|_, _| false)?;
            transaction.open_table(member::MEMBERS)?.retain(|_, _| false)?;
            transaction.open_table(peer::PEERS)?.retain(|_, ()| false)?;
            transaction.open_table(eviction::EVICTIONS)?.retain(|_, _| false)?;
            transaction.open_table(operator_route::OPERATOR_ROUTES)?.retain(|_, _| false)?;
            transaction.open_table(lane_rule::LANE_RULES)?.retain(|_, _| false)?;
            transaction.open_table(stream::STREAMS)?.retain(|_, _| false)?;
            transaction.open_table(stream::CONSUMERS)?.retain(|_, _| false)?;
            Ok(Outcome::Changed(()))
        })
    }
}
