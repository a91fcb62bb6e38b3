use hawser_wire::NodeId;
use redb::{ReadableTable, TableDefinition, TableError};

use crate::codec::{RecordReader, RecordWriter};
use crate::database::Outcome;
use crate::{Store, StoreError};

/// By neighbour. Stores of earlier releases have no such table.
pub(crate) const LANE_RULES: TableDefinition<'_, &[u8; 16], &[u8]> =
    TableDefinition::new("lane_rules");

/// What an operator has chosen for the bulk lanes of the link to one neighbour.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LaneRuleRecord {
    /// Most bulk lanes; `None`: as configured.
    pub bulk_lanes_max: Option<u8>,
    /// Whether they are opened and closed by need, by the name that configuration files have for it;
    /// `None`: as configured.
    pub policy: Option<String>,
}

impl Store {
    /// Keeps what an operator has chosen for the link to `neighbour`, in place of what was chosen
    /// before; a record that chooses nothing is forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_lane_rule(
        &self,
        neighbour: NodeId,
        rule: &LaneRuleRecord,
    ) -> Result<(), StoreError> {
        // 0 is no count of lanes, and the empty text no name.
        let record = RecordWriter::new()
            .u8(rule.bulk_lanes_max.unwrap_or(0))
            .text(rule.policy.as_deref().unwrap_or_default());
        self.write(|transaction| {
            let mut rules = transaction.open_table(LANE_RULES)?;
            if *rule == LaneRuleRecord::default() {
                rules.remove(neighbour.as_bytes())?;
            } else {
                rules.insert(neighbour.as_bytes(), record.as_bytes())?;
            }
            Ok(Outcome::Changed(()))
        })
    }

    /// What operators have chosen, in the order of the neighbours.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lane_rules(&self) -> Result<Vec<(NodeId, LaneRuleRecord)>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(LANE_RULES) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut rules = Vec::new();
            for row in table.iter()? {
                let (neighbour, record) = row?;
                let mut reader = RecordReader::new(record.value(), "lane rule")?;
                let (bulk_lanes_max, policy) = (reader.u8()?, reader.text()?);
                reader.finish()?;
                let rule = LaneRuleRecord {
                    bulk_lanes_max: Some(bulk_lanes_max).filter(|max| *max > 0),
                    policy: Some(policy).filter(|name| !name.is_empty()),
                };
                rules.push((NodeId::from_bytes(*neighbour.value()), rule));
            }
            Ok(rules)
        })
    }
}
