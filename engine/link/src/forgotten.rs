use hawser_wire::LinkEpoch;

use crate::connection::ConnectionId;

/// Which connections served in a link session that this end has ended since: of them it knows no counts.
///
/// A dialler counts on from connection to connection, so the highest epoch that either side's had is
/// enough. One below it that never served, as another one was preferred, is taken for forgotten; one
/// above it is known not to have served.
#[derive(Debug, Default)]
pub(crate) struct ForgottenConnections {
    /// The highest that served, of those dialled by the peer and of those dialled here.
    served: [Option<LinkEpoch>; 2],
    /// As it was when a session ended last.
    forgotten: [Option<LinkEpoch>; 2],
}

impl ForgottenConnections {
    /// A connection serves.
    pub(crate) fn handle_lane_up(&mut self, id: ConnectionId) {
        let [dialled_there, dialled_here] = &mut self.served;
        let highest = if id.dialled { dialled_here } else { dialled_there };
        *highest = Some(id.epoch).max(*highest);
    }

    /// What served until now is forgotten.
    pub(crate) const fn handle_session_end(&mut self) {
        self.forgotten = self.served;
    }

    /// It may have served.
    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        let [dialled_there, dialled_here] = self.forgotten;
        Some(id.epoch) <= if id.dialled { dialled_here } else { dialled_there }
    }
}

#[cfg(test)]
mod tests {
    use hawser_wire::LaneId;

    use super::*;

    const fn connection(epoch: u64, dialled: bool) -> ConnectionId {
        ConnectionId { lane: LaneId(2), epoch: LinkEpoch(epoch), dialled }
    }

    #[test]
    fn what_served_before_a_sessions_end_is_forgotten_and_nothing_later() {
        let mut forgotten = ForgottenConnections::default();
        forgotten.handle_session_end();
        assert!(!forgotten.contains(connection(0, true)), "nothing has served");
        for epoch in [3, 7, 5] {
            forgotten.handle_lane_up(connection(epoch, true));
        }
        forgotten.handle_lane_up(connection(100, false));
        assert!(!forgotten.contains(connection(3, true)), "the session goes on");
        forgotten.handle_session_end();
        forgotten.handle_lane_up(connection(9, true));
        for (epoch, dialled, is_forgotten) in
            [(3, true, true), (7, true, true), (8, true, false), (9, true, false)]
                .into_iter()
                .chain([(100, false, true), (101, false, false)])
        {
            assert_eq!(forgotten.contains(connection(epoch, dialled)), is_forgotten, "{epoch}");
        }
    }
}
