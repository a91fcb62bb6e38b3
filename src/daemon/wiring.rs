//! Builds a node out of its parts and runs it: store, shards, control plane, API threads.

use std::net::TcpListener;

use hawser_admission::{AdmissionLimits, SocketOptions};
use hawser_api::bind_unix;
use hawser_exchange::{LaneRule, ShardPorts, exchange};
use hawser_identity::NodeKey;
use hawser_plane::{LanePlan, Plane, PlaneConfig};
use hawser_runtime::{IoDriver, ShardConfig, ShardThread, spawn_shard};
use hawser_session::LaneSession;
use hawser_store::{NodeRecord, Store, StoreThread};
use hawser_wire::NodeId;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::api_threads::{ApiThreads, Listeners};
use super::config::key::{Applies, KEYS};
use super::config::settings::Settings;
use super::config::{Config, DriverChoice};
use super::congestion::CongestionControl;
use super::logging::{self, LogLevel};
use super::profile::CorePlan;
use super::ready::Ready;
use super::shutdown::{Heard, Signals, end_on_panic, enforce_deadline};
use super::{leash, machine};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// How a node is to be started.
pub(crate) struct NodeStart {
    pub(crate) settings: Settings,
    /// Reads the settings anew, for SIGHUP.
    pub(crate) reload: Box<dyn Fn() -> Result<Settings, Failure>>,
    /// It ends when its standard input is closed.
    pub(crate) leashed: bool,
    pub(crate) out: Output,
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// If it cannot start, or a part of it fails.
pub(crate) fn run(start: &NodeStart) -> Result<(), Failure> {
    let config = Config::from_settings(start.settings.clone())?;
    let level = logging::start(&config.log_level, config.log_json)?;
    end_on_panic();
    machine::allow_huge_pages(config.huge_pages);
    let plan = config.cores.plan(&machine::usable_processors()?)?;
    say_plan(&config, &plan);
    machine::check_limits(plan.shards.len());

    let store = Store::open(&config.data_dir)?;
    let (node, name) = identity(&store, config.name.as_deref())?;
    logging::set_node(node);
    let socket = config.data_dir.join(crate::cli::SOCKET_NAME);
    let unix = bind_unix(&socket)?;
    let tcp = config.api_listen.as_deref().map(bind_tcp).transpose()?;
    let api_listening = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
    let (store_thread, store) = StoreThread::start(store)?;

    let count = |list: &[usize]| u16::try_from(list.len()).unwrap_or(u16::MAX);
    let wiring = exchange::<LaneSession>(count(&plan.shards), count(&plan.api));
    let control = if config.chooses_control { CongestionControl::of_system() } else { None };
    let far_control = control.as_ref().map(|control| control.far.as_str());
    let shards = spawn_shards(wiring.shards, &config, &plan, node, far_control)?;
    let io_driver = shards.first().map_or("none", |shard| shard.io_driver);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::plain(format!("cannot start a runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let death = if start.leashed { Some(leash::watch_stdin()?) } else { None };
        let signals = Signals::new(death)?;
        let unpaced = control.as_ref().map(|control| control.unpaced);
        let plane_config = plane_config(&config, name.clone(), io_driver, unpaced);
        let (plane, handle) = Plane::new(plane_config, store, wiring.control).await?;
        let listeners = Listeners { unix, tcp, operators: config.api_operators.clone() };
        let apis = ApiThreads::spawn(wiring.apis, &handle, &listeners, &config, &plan)?;
        // Last, because threads that are started inherit it.
        machine::pin(&plan.control, "control")?;
        let ready = Ready {
            ready: true,
            node_id: node.to_string(),
            node_name: name,
            data_dir: config.data_dir.clone(),
            socket,
            listening: plane.listening().map(|address| address.to_string()),
            api_listening: api_listening.map(|address| address.to_string()),
            io_driver,
            shards: shards.len(),
            boot: plane.boot(),
            pid: std::process::id(),
        };
        info!(name = ready.node_name, boot = ready.boot, io_driver, "the node serves");
        ready.say(start.out);
        serve(plane, apis, listeners, signals, start, &level).await
    });
    // The plane is gone and has stopped the shards; what remains is to see them end.
    for shard in shards {
        if shard.thread.join().is_err() {
            error!("a shard panicked");
        }
    }
    if let Err(error) = store_thread.join() {
        error!(%error, "the store did not end well");
    }
    info!("stopped");
    outcome
}

/// Runs the control plane until something says stop; then ends the API before the lanes.
async fn serve(
    plane: Plane,
    mut apis: ApiThreads,
    listeners: Listeners,
    mut signals: Signals,
    start: &NodeStart,
    level: &LogLevel,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    let stop = async {
        loop {
            tokio::select! {
                heard = signals.next() => match heard {
                    Heard::Stop => break,
                    Heard::Reload => reload(start, level),
                },
                failed = apis.failed() => {
                    outcome = Err(failed);
                    break;
                }
            }
        }
        enforce_deadline();
        // The socket's file goes before nobody answers there.
        drop(listeners);
        apis.stop().await;
    };
    plane.run(stop).await;
    outcome
}

/// Takes the keys that may change while the node runs, and says which others changed.
fn reload(start: &NodeStart, level: &LogLevel) {
    let settings = match (start.reload)().and_then(Settings::finish) {
        Ok(settings) => settings,
        Err(failure) => {
            for line in failure.message.lines() {
                error!("not reloaded: {line}");
            }
            return;
        }
    };
    level.set(&settings.text("log.level").unwrap_or_default());
    info!("configuration reloaded");
    for key in KEYS.iter().filter(|key| key.applies == Applies::Restart) {
        if settings.value(key.name).0 != start.settings.value(key.name).0 {
            warn!(key = key.name, "changed; it applies when the node starts again");
        }
    }
    let (peers, at_start) = (&settings.peers, &start.settings.peers);
    if peers.lane_rules() != at_start.lane_rules() || peers.link_admin() != at_start.link_admin() {
        warn!(key = "links.peer", "changed; it applies when the node starts again");
    }
}

fn say_plan(config: &Config, plan: &CorePlan) {
    let CorePlan { control, api, shards, folded } = plan;
    if *folded {
        info!(
            profile = config.profile,
            ?control,
            ?api,
            ?shards,
            "processors, shared: the profile wants more than this process may use"
        );
    } else {
        info!(profile = config.profile, ?control, ?api, ?shards, "processors");
    }
}

/// Who this node is; a new node gets its key here. The name is the configured one, else that of the
/// last start, else the host's.
fn identity(store: &Store, configured: Option<&str>) -> Result<(NodeId, String), Failure> {
    let failed = |error| Failure::plain(format!("this node's key: {error}"));
    match store.node()? {
        Some(kept) => {
            let key = NodeKey::from_pkcs8(&kept.key_pkcs8).map_err(failed)?;
            Ok((key.node_id(), configured.map_or(kept.name, str::to_owned)))
        }
        None => {
            let key = NodeKey::generate().map_err(failed)?;
            let name = configured.map_or_else(machine::host_name, str::to_owned);
            let key_pkcs8 = Zeroizing::new(key.pkcs8().to_vec());
            store.set_node(&NodeRecord { key_pkcs8, name: name.clone() })?;
            Ok((key.node_id(), name))
        }
    }
}

fn spawn_shards(
    ports: Vec<ShardPorts<LaneSession>>,
    config: &Config,
    plan: &CorePlan,
    node: NodeId,
    far_control: Option<&str>,
) -> Result<Vec<ShardThread>, Failure> {
    let driver = match config.driver {
        DriverChoice::Auto => IoDriver::Auto,
        DriverChoice::IoUring => IoDriver::IoUring,
        DriverChoice::Epoll => IoDriver::Epoll,
    };
    ports
        .into_iter()
        .zip(&plan.shards)
        .map(|(ports, core)| {
            let mut shard = ShardConfig::new(node);
            shard.core = Some(*core);
            shard.spin = plan.spin_on(*core, config.shard_spin);
            shard.driver = driver;
            shard.set_heartbeat(config.heartbeat);
            shard.collapsed = config.collapsed;
            shard.far_control = far_control.map(str::to_owned);
            shard.lane_rule =
                LaneRule { bulk_lanes_max: config.bulk_lanes_max, policy: config.lane_policy };
            config.bounds.apply(&mut shard, plan.shards.len());
            Ok(spawn_shard(ports, shard)?)
        })
        .collect()
}

fn plane_config(
    config: &Config,
    node_name: String,
    io_driver: &str,
    congestion_control: Option<&'static str>,
) -> PlaneConfig {
    PlaneConfig {
        node_name,
        listen: config.listen.clone(),
        advertise: config.advertise.clone(),
        dial: config.dial.clone(),
        proxy: config.proxy.clone(),
        probe_interval: config.probe_interval,
        lanes: LanePlan { collapsed: config.collapsed, bulk_lanes_max: config.bulk_lanes_max },
        lane_policy: config.lane_policy,
        peer_lane_rules: config.peer_lane_rules.clone(),
        link_admin: config.link_admin.clone(),
        stub: config.stub,
        paths: config.paths,
        weights: config.weights,
        limits: AdmissionLimits {
            handshake_timeout: config.handshake_timeout,
            handshakes_max: config.handshakes_max,
            accepts_per_second_per_address: config.accepts_per_second_per_address,
            request_bytes_max: config.request_bytes_max,
        },
        sockets: SocketOptions {
            congestion_control,
            send_buffer_bytes: config.send_buffer_bytes,
            receive_buffer_bytes: config.receive_buffer_bytes,
        },
        io_driver: io_driver.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn bind_tcp(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "free the port, or set api.listen (--api-listen) to another one or to none"
            }
            _ => "set api.listen (--api-listen) to an address of this host, or to none",
        };
        Failure::plain(format!("cannot serve gRPC at {address}: {error}\n{hint}"))
    })
}
