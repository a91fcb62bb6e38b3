use hawser_wire::LaneClose;
use tokio::net::TcpStream;

use crate::connection::{Connection, Deadline, LINGER};
use crate::{Handover, Stage};

/// Closes a connection that no shard gets, and says why to the peer, which may have begun to speak.
/// Takes a second at most.
pub async fn refuse(handover: Handover, close: &LaneClose) {
    let Handover { socket, session, remote, .. } = handover;
    // A socket that is lost already needs no good-bye.
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let mut connection = Connection::new(socket, session, remote, Deadline::after(LINGER));
    connection.enter(Stage::Hello, 0);
    connection.refuse(close).await;
}
