//! When a node stops, and that it does.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::cli::failure::{Exit, Failure};

/// A node that was told to stop has stopped after this time, one way or the other.
const STOP_WITHIN: Duration = Duration::from_millis(2_900);

/// What a running node listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    /// The process on whose behalf it runs died.
    death: Option<oneshot::Receiver<()>>,
}

/// What was heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    Stop,
    Reload,
}

impl Signals {
    /// # Errors
    /// If the system refuses.
    pub(crate) fn new(death: Option<oneshot::Receiver<()>>) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::plain(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
            death,
        })
    }

    pub(crate) async fn next(&mut self) -> Heard {
        let death = async {
            match &mut self.death {
                Some(death) => death.await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _signal = self.terminate.recv() => info!("stopping: SIGTERM"),
            _signal = self.interrupt.recv() => info!("stopping: SIGINT"),
            _died = death => {
                self.death = None;
                info!("stopping: the process that started this node has ended");
            }
            _signal = self.reload.recv() => return Heard::Reload,
        }
        Heard::Stop
    }
}

/// From now on the process has [`STOP_WITHIN`] to end by itself.
pub(crate) fn enforce_deadline() {
    let watchdog = std::thread::Builder::new().name("watchdog".to_owned()).spawn(|| {
        std::thread::sleep(STOP_WITHIN);
        error!("the node did not stop in time: ending the process as it is");
        std::process::exit(Exit::Failure as i32);
    });
    if let Err(error) = watchdog {
        error!(%error, "nothing enforces the end of the node");
    }
}

/// A panic ends the process: a node with a dead thread in it must not look alive.
pub(crate) fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        error!(thread = std::thread::current().name(), panic = %panic, "a thread panicked: ending the process");
        report(panic);
        std::process::abort();
    }));
}
