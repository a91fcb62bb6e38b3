//! A plane whose loop stands still: what ended beside it is taken in by hand.

use hawser_admission::{AdmissionLimits, SocketOptions};
use hawser_exchange::{LanePolicyMode, ShardPorts, exchange};
use hawser_routing::Weights;
use hawser_store::StoreThread;
use hawser_wire::StreamId;
use tempfile::TempDir;
use tokio::sync::broadcast;

use super::*;
use crate::{EventKind, EventView, LanePlan};

const PATIENCE: Duration = Duration::from_secs(30);

struct Still {
    plane: Plane,
    store: StoreHandle,
    events: broadcast::Receiver<EventView>,
    _shards: Vec<ShardPorts<LaneSession>>,
    _directory: TempDir,
}

impl Still {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("store");
        let (_thread, store) = StoreThread::start(store).expect("store thread");
        let config = PlaneConfig {
            node_name: "a".to_owned(),
            listen: None,
            advertise: None,
            dial: Vec::new(),
            proxy: None,
            probe_interval: Duration::from_secs(1),
            lanes: LanePlan::default(),
            lane_policy: LanePolicyMode::Off,
            peer_lane_rules: Vec::new(),
            link_admin: Vec::new(),
            stub: false,
            paths: 1,
            weights: [Weights::default(); 3],
            limits: AdmissionLimits::default(),
            sockets: SocketOptions::default(),
            io_driver: "none".to_owned(),
            version: "test".to_owned(),
        };
        let wired = exchange::<LaneSession>(1, 0);
        let (plane, _handle) =
            Plane::new(config, store.clone(), wired.control).await.expect("a plane");
        let events = plane.control.events.sender().subscribe();
        Self { plane, store, events, _shards: wired.shards, _directory: directory }
    }

    /// The next thing that has ended beside the loop is taken in; what is told of it.
    async fn take_in(&mut self) -> EventView {
        let next = timeout(PATIENCE, self.plane.continuations.recv()).await;
        next.expect("in time").expect("something")(&mut self.plane.control);
        self.events.try_recv().expect("an event")
    }
}

#[tokio::test]
async fn an_address_is_dialled_again_after_an_attempt_that_ended_by_a_bug() {
    let mut still = Still::new().await;
    let control = &mut still.plane.control;
    let now = control.now();
    control.dialler.add(now, "b:7480");
    let request = control.dialler.poll_dial(now, &control.links).expect("due");
    assert_eq!(control.dialler.poll_timeout(&control.links), None, "one attempt at a time");
    control.begin_dial(request, async { panic!("of a test") });
    let told = still.take_in().await;
    assert_eq!(told.kind, EventKind::Refused);
    assert_eq!(told.detail, "dialling ended by a bug: of a test");
    let Control { dialler, links, .. } = &still.plane.control;
    assert!(dialler.poll_timeout(links).is_some());
    let unreached: Vec<_> = dialler.unreached(links).collect();
    assert_eq!(unreached, [("b:7480", "ended by a bug: of a test")]);
}

#[tokio::test]
async fn progress_that_the_store_does_not_take_waits_for_the_next_attempt() {
    let mut still = Still::new().await;
    let ended = still.store.run(|_| -> Result<(), StoreError> { panic!("of a test") }).await;
    assert!(ended.is_err());
    let control = &mut still.plane.control;
    let (stream, next) = (StreamId::from_bytes([7; 16]), StreamOffset(4));
    control.commits.add(MonoTime::ZERO, stream, "c".into(), next);
    let due = control.commits.poll_timeout().expect("due some time");
    sleep_maybe(Some(control.instant(due))).await;
    control.write_commits();
    let told = still.take_in().await;
    assert!(told.detail.starts_with("consumers' progress is not kept yet: "), "{told:?}");
    let commits = &mut still.plane.control.commits;
    assert!(commits.poll_timeout().is_some_and(|again| again > due));
    assert_eq!(commits.drain(), [(stream, "c".to_owned(), next)]);
}
