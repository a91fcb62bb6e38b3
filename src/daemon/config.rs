//! The node's configuration: TOML file, `HAWSER_SECTION__KEY` variables, command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_exchange::LanePolicyMode;
use hawser_plane::{LaneRuleChoice, PeerSelector};
use hawser_routing::Weights;
use hawser_wire::{NodeId, TrafficClass};

use crate::cli::failure::Failure;
use crate::daemon::profile::{CoreWish, Profile};

mod bounds;
pub(crate) mod key;
pub(crate) mod peers;
pub(crate) mod settings;
pub(crate) mod value;
mod weights;

use bounds::Bounds;
use settings::Settings;

/// The directory that a node uses unless told otherwise.
const DATA_DIR_ROOT: &str = "/var/lib/hawser";

/// How shards wait for sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DriverChoice {
    /// io_uring, and epoll where that is refused.
    Auto,
    IoUring,
    Epoll,
}

/// Checked configuration of one node.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// None: the host's name.
    pub(crate) name: Option<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) profile: &'static str,
    /// The kernel may give pages of 2 MiB.
    pub(crate) huge_pages: bool,
    /// None: no inbound lanes.
    pub(crate) listen: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) dial: Vec<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) collapsed: bool,
    pub(crate) bulk_lanes_max: u8,
    pub(crate) heartbeat: Duration,
    /// Each member is probed about this often.
    pub(crate) probe_interval: Duration,
    pub(crate) lane_policy: LanePolicyMode,
    /// What differs on the links to single neighbours.
    pub(crate) peer_lane_rules: Vec<(PeerSelector, LaneRuleChoice)>,
    /// What links to single neighbours cost more, in hops.
    pub(crate) link_admin: Vec<(PeerSelector, u16)>,
    /// Of each stream and each link.
    pub(crate) bounds: Bounds,
    /// Never transit.
    pub(crate) stub: bool,
    /// Paths to each node.
    pub(crate) paths: usize,
    /// In the order of [`TrafficClass::ALL`].
    pub(crate) weights: [Weights; TrafficClass::ALL.len()],
    pub(crate) handshake_timeout: Duration,
    pub(crate) handshakes_max: usize,
    pub(crate) accepts_per_second_per_address: u32,
    pub(crate) request_bytes_max: usize,
    /// None: gRPC on the unix socket alone.
    pub(crate) api_listen: Option<String>,
    /// Who may change the node over TCP.
    pub(crate) api_operators: Vec<NodeId>,
    pub(crate) api_spin: Duration,
    pub(crate) shard_spin: Duration,
    pub(crate) driver: DriverChoice,
    pub(crate) cores: CoreWish,
    /// None: the kernel tunes it.
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    /// Whether sockets of near lanes may have another congestion control than the system's.
    pub(crate) chooses_control: bool,
    pub(crate) log_json: bool,
    pub(crate) log_level: String,
}

impl Config {
    /// # Errors
    /// Whatever is wrong in `settings`, and a profile that does not exist.
    pub(crate) fn from_settings(settings: Settings) -> Result<Self, Failure> {
        let settings = settings.finish()?;
        let profile = Profile::named(&settings.text("node.profile").unwrap_or_default())?;
        let number = |name: &str| settings.number(name).unwrap_or_default();
        let small = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let micros = |name: &str, profile: u64| {
            Duration::from_micros(settings.number(name).unwrap_or(profile))
        };
        let buffer = |name: &str, profile: u64| {
            let bytes = settings.number(name).unwrap_or(profile);
            usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
        };
        let listen = |name: &str| settings.text(name).filter(|address| address != "none");
        let cores = profile.cores.overridden(
            settings.processors("cores.shards"),
            settings.processors("cores.control"),
            settings.processors("cores.api"),
        )?;
        let data_dir = match settings.text("node.data_dir") {
            Some(path) => PathBuf::from(path),
            None => default_data_dir()?,
        };
        Ok(Self {
            name: settings.text("node.name"),
            data_dir,
            profile: profile.name,
            huge_pages: settings.flag("node.huge_pages"),
            listen: listen("lanes.listen"),
            advertise: settings.text("lanes.advertise"),
            dial: settings.texts("lanes.dial"),
            proxy: settings.text("lanes.proxy"),
            collapsed: settings.flag("lanes.collapsed"),
            bulk_lanes_max: u8::try_from(number("links.bulk_lanes_max")).unwrap_or(u8::MAX),
            heartbeat: Duration::from_millis(
                settings.number("links.heartbeat_ms").unwrap_or(profile.heartbeat_ms),
            ),
            probe_interval: Duration::from_millis(
                settings.number("membership.probe_ms").unwrap_or(profile.probe_ms),
            ),
            lane_policy: settings
                .text("links.lane_policy")
                .and_then(|name| LanePolicyMode::of(&name))
                .unwrap_or_default(),
            peer_lane_rules: settings.peers.lane_rules(),
            link_admin: settings.peers.link_admin(),
            bounds: Bounds::from_settings(&settings)?,
            stub: settings.flag("routing.stub"),
            paths: small("routing.paths"),
            weights: TrafficClass::ALL.map(|class| {
                let text = settings.text(&format!("routing.weights_{}", class.name()));
                // What is no weights has been refused.
                text.and_then(|text| weights::parse(&text)).unwrap_or_default()
            }),
            handshake_timeout: Duration::from_millis(number("admission.handshake_timeout_ms")),
            handshakes_max: small("admission.handshakes_max"),
            accepts_per_second_per_address: u32::try_from(number(
                "admission.accepts_per_second_per_address",
            ))
            .unwrap_or(u32::MAX),
            request_bytes_max: small("admission.request_bytes_max"),
            api_listen: listen("api.listen"),
            // What is no id has been refused.
            api_operators: settings
                .texts("api.operators")
                .iter()
                .filter_map(|id| id.parse().ok())
                .collect(),
            api_spin: micros("api.spin_us", profile.api_spin_us),
            shard_spin: micros("shards.spin_us", profile.shard_spin_us),
            driver: match settings.text("shards.driver").as_deref() {
                Some("io_uring") => DriverChoice::IoUring,
                Some("epoll") => DriverChoice::Epoll,
                _ => DriverChoice::Auto,
            },
            cores,
            send_buffer_bytes: buffer("sockets.send_buffer_bytes", profile.send_buffer_bytes),
            receive_buffer_bytes: buffer(
                "sockets.receive_buffer_bytes",
                profile.receive_buffer_bytes,
            ),
            chooses_control: settings.text("sockets.congestion_control").as_deref()
                != Some("system"),
            log_json: settings.text("log.format").as_deref() == Some("json"),
            log_level: settings.text("log.level").unwrap_or_default(),
        })
    }
}

/// `$HAWSER_DATA_DIR`, else the place that the user may write.
///
/// # Errors
/// If neither that variable nor `HOME` is set.
pub(crate) fn default_data_dir() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("HAWSER_DATA_DIR") {
        return Ok(PathBuf::from(path));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(DATA_DIR_ROOT));
    }
    set("HOME").map(|home| Path::new(&home).join(".local/share/hawser")).ok_or_else(|| {
        Failure::usage("no data directory: HOME is not set; say --data-dir or HAWSER_DATA_DIR")
    })
}

/// The configuration file that is read when none is named, if it exists.
pub(crate) fn default_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("HAWSER_CONFIG") {
        return Some(PathBuf::from(path));
    }
    let path = if rustix::process::geteuid().is_root() {
        PathBuf::from("/etc/hawser/hawser.toml")
    } else {
        let home = set("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")))?;
        home.join("hawser/hawser.toml")
    };
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_a_node() {
        let mut settings = Settings::default();
        settings.set("--data-dir", "node.data_dir", "/x");
        let config = Config::from_settings(settings).unwrap();
        assert_eq!(config.data_dir, Path::new("/x"));
        assert_eq!(config.profile, "balanced");
        assert_eq!(config.listen.as_deref(), Some("0.0.0.0:7480"));
        assert_eq!(config.api_listen.as_deref(), Some("0.0.0.0:7481"));
        assert_eq!(config.handshake_timeout, Duration::from_secs(5));
        assert_eq!(config.send_buffer_bytes, None);
        assert_eq!((config.bulk_lanes_max, config.lane_policy), (4, LanePolicyMode::On));
        assert_eq!((config.driver, config.paths), (DriverChoice::Auto, 4));
    }

    #[test]
    fn settings_override_the_profile() {
        let mut settings = Settings::default();
        settings.set("--data-dir", "node.data_dir", "/x");
        settings.set("--profile", "node.profile", "latency");
        let latency = Config::from_settings(settings.clone()).unwrap();
        assert!(latency.shard_spin > Duration::ZERO);
        settings.set("-", "shards.spin_us", "0");
        settings.set("-", "cores.shards", "7");
        settings.set("-", "lanes.listen", "none");
        settings.set("-", "links.bulk_lanes_max", "2");
        settings.set("-", "links.lane_policy", "dry-run");
        let config = Config::from_settings(settings).unwrap();
        assert_eq!(config.shard_spin, Duration::ZERO);
        assert_eq!(config.listen, None);
        assert_eq!((config.bulk_lanes_max, config.lane_policy), (2, LanePolicyMode::DryRun));
        assert_ne!(config.cores, latency.cores);
    }
}
