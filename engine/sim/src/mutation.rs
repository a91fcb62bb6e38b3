use crate::simulation::Simulation;

/// Breaks one thing on purpose, to show that a checker sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutation {
    /// A frame that a link delivers is dropped on the way to its node.
    LoseFrame,
    /// One is given to the node twice.
    RepeatFrame,
    /// A record that a link delivers comes behind the next one.
    DelayRecord,
    /// A frame arrives changed.
    AlterFrame,
    /// A message that a connection carries vanishes, though the connection lives.
    LoseMessage,
    /// One comes twice.
    RepeatMessage,
    /// A source is told of more credit than its destination granted.
    InflateCredit,
    /// From then on sources are told of a byte less than their destinations grant.
    WithholdCredit,
    /// A stream is forgotten at its destination, and what it was allotted is not given back.
    LeakWindow,
    /// A link that was cut stays cut.
    NeverHeal,
    /// From then on no lane is dialled because a machine asks for it.
    IgnoreWishes,
    /// From then on what has left its link goes no other way, and nobody is told.
    LoseRerouted,
    /// A consumer's record is confirmed and not taken.
    SkipRecord,
    /// A consumer gets a record a second time.
    RepeatRecord,
}

impl Simulation {
    /// The mutation is `wanted`, and its occasion is this one or was before.
    pub(crate) fn mutate_from_now(&mut self, wanted: Mutation) -> bool {
        match &mut self.mutation {
            Some((mutation, left)) if *mutation == wanted => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            _ => false,
        }
    }

    /// The mutation is `wanted`, and this is the occasion.
    pub(crate) fn mutate(&mut self, wanted: Mutation) -> bool {
        match &mut self.mutation {
            Some((mutation, left)) if *mutation == wanted => {
                *left = left.saturating_sub(1);
                let now = *left == 0;
                if now {
                    self.mutation = None;
                }
                now
            }
            _ => false,
        }
    }
}
