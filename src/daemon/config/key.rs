//! Every configuration key: its form, its default, when a change of it applies.
//!
//! **Invariant:** the table is the one truth: loading, `config check`, `config keys` and
//! `docs/configuration.md` are made from it, and a test compares the page.

use hawser_wire::LANE_CREDIT_BYTES_INITIAL;

use super::value::Value;

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A node's human name.
    Name,
    /// `host:port`.
    Address,
    /// `host:port` or `none`.
    AddressOrNone,
    /// List of `host:port`.
    Addresses,
    /// List of nodes' ids.
    Nodes,
    /// A node's id.
    Node,
    /// `true` or `false`.
    Flag,
    /// A whole number within these bounds.
    Number { min: u64, max: u64 },
    /// A processor, or a list of them, as the kernel counts them.
    Processors,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Weights of a class: `latency=1,hop=50`.
    Weights,
    /// A level, or levels by target: `info,hawser_plane=debug`.
    LogLevel,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Applies {
    /// On SIGHUP.
    Reload,
    /// When the node starts again.
    Restart,
}

impl Applies {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// `section.key`; of an entry of a list `section.list.key`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As an environment variable would say it; empty: unset, and `doc` says what then holds.
    pub(crate) default: &'static str,
    pub(crate) applies: Applies,
    pub(crate) doc: &'static str,
}

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, applies: Applies::Restart, doc }
}

/// Largest socket buffer that may be asked for, in bytes.
const SOCKET_BUFFER_BYTES_MAX: u64 = 1 << 30;
/// What one stream or one lane may be let hold, in bytes.
const BOUND_BYTES_MAX: u64 = 1 << 30;
/// Of all streams.
const STREAM_MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Longest spin, in microseconds: beyond it a core would never sleep.
const SPIN_US_MAX: u64 = 1_000_000;
/// A hop costs what the announced latency of a link may be off by.
const WEIGHTS: &str = "latency=1,hop=50";

/// In the order of the page.
pub(crate) const KEYS: &[Key] = &[
    key(
        "node.name",
        Kind::Name,
        "",
        "Human name of the node, unique in its mesh: 1 to 64 bytes of letters, digits, `.`, `_`, `-`. Unset: the one of the last start, at the first the host's. A member of a mesh keeps its name: a start with another one is refused, because the directory is then another node's.",
    ),
    key(
        "node.data_dir",
        Kind::Text,
        "",
        "Directory of the node's state and of its socket, of mode 0700. Unset: `$HAWSER_DATA_DIR`, else `/var/lib/hawser` for root and `~/.local/share/hawser` for others.",
    ),
    key(
        "node.profile",
        Kind::Choice(super::super::profile::NAMES),
        "balanced",
        "How the machine is used: see Profiles.",
    ),
    key(
        "node.huge_pages",
        Kind::Flag,
        "false",
        "Whether the kernel may give this process pages of 2 MiB (transparent huge pages). They save up to some per cent of CPU at full speed. Each is cleared whole when it is first touched, which stops a thread for milliseconds, and a node takes twice the memory with them.",
    ),
    key(
        "lanes.listen",
        Kind::AddressOrNone,
        "0.0.0.0:7480",
        "Where other nodes connect. `none`: no inbound connection is accepted; the node only dials.",
    ),
    key(
        "lanes.advertise",
        Kind::Address,
        "",
        "Address that other nodes are told to dial, where it differs from `lanes.listen`, as behind a port forwarding. Unset: the address listened on, if it is a definite one.",
    ),
    key(
        "lanes.dial",
        Kind::Addresses,
        "",
        "Nodes to keep links to, beside those that the mesh has told this node of.",
    ),
    key(
        "lanes.proxy",
        Kind::Address,
        "",
        "HTTP proxy that is asked to CONNECT to each dialled address. Unset: direct.",
    ),
    key(
        "lanes.collapsed",
        Kind::Flag,
        "false",
        "Links begin with one lane for all traffic, instead of one for control, one for priority and one or more for bulk. `hawser link mode` changes a live link.",
    ),
    key(
        "links.bulk_lanes_max",
        Kind::Number { min: 1, max: 4 },
        "4",
        "Most bulk lanes of a link. The first is always there; others are opened while the lane policy wants them. `[[links.peer]]` and `hawser lane cap` say otherwise for one link.",
    ),
    key(
        "links.lane_policy",
        Kind::Choice(&["on", "dry-run", "off"]),
        "on",
        "Whether bulk lanes beyond the first are opened and closed by need. `dry-run`: each decision is told in `hawser lane events` and none is acted on. `off`: there is one bulk lane, and those that peers open. `[[links.peer]]` and `hawser lane policy` say otherwise for one link.",
    ),
    key(
        "links.heartbeat_ms",
        Kind::Number { min: 10, max: 10_000 },
        "",
        "Heartbeats go out on each lane this often, in milliseconds. Three without an answer: what is under way goes over another lane as well; ten, and at least a second: the lane is dead. Unset: the profile's.",
    ),
    key(
        "links.queue_bytes",
        Kind::Number { min: 4 << 20, max: BOUND_BYTES_MAX },
        "33554432",
        "What may wait for a link, in bytes: of priority, of bulk from here, and of bulk that others send through here, each. Of others', one tenant has half at most and one stream a third; what finds no room is dropped, and its source told. See Memory.",
    ),
    key(
        "links.mark_bytes",
        Kind::Number { min: 64 << 10, max: BOUND_BYTES_MAX },
        "1048576",
        "While more than this many bytes of others' bulk wait for a link, those who have more than their share of it are told to slow down. At most a quarter of `links.queue_bytes`. Less keeps queues shorter, more keeps a distant link fuller.",
    ),
    key(
        "links.unacked_bytes",
        Kind::Number { min: 4 << 20, max: BOUND_BYTES_MAX },
        "33554432",
        "What each lane may have sent that the peer has not acknowledged, in bytes; 2 MiB of it are for control alone. More than a lane carries in a round trip is not used.",
    ),
    key(
        "links.credit_bytes",
        Kind::Number { min: LANE_CREDIT_BYTES_INITIAL, max: BOUND_BYTES_MAX },
        "67108864",
        "What a peer may send over a lane ahead of what has come, in bytes, at most: as much as comes in two round trips, and never less than 8 MiB.",
    ),
    key(
        "streams.window_bytes",
        Kind::Number { min: 256 << 10, max: BOUND_BYTES_MAX },
        "4194304",
        "What this node, as a destination, holds of each stream for consumers that have not taken it, in bytes, at most: 256 KiB at first, and as much as is used of it. A stream carries at most this in a round trip. See Memory.",
    ),
    key(
        "streams.memory_bytes",
        Kind::Number { min: 16 << 20, max: STREAM_MEMORY_BYTES_MAX },
        "536870912",
        "What this node, as a destination, holds of all streams together, in bytes; each shard has its part, of which a stream has a quarter at most, a tenant half. See Memory.",
    ),
    key(
        "streams.outbox_bytes",
        Kind::Number { min: 2 << 20, max: BOUND_BYTES_MAX },
        "16777216",
        "What this node, as the source, keeps of each stream until all its consumers have confirmed it, in bytes. When it is full publishers wait. See Memory.",
    ),
    key(
        "membership.probe_ms",
        Kind::Number { min: 20, max: 60_000 },
        "",
        "Each member is asked about this often whether it lives, by one of the others, in milliseconds. A dead one is known to all after some five to seven times as long. Unset: the profile's.",
    ),
    key(
        "routing.stub",
        Kind::Flag,
        "false",
        "`true`: the node is never transit: it can be reached, and no path of another node leads through it. For nodes whose links are not for others' traffic; `node drain` is for a while.",
    ),
    key(
        "routing.paths",
        Kind::Number { min: 1, max: 16 },
        "4",
        "Best paths that are computed to each node. Those that are about as good as the best one share the traffic: streams spread over them, each on one at a time; the others are for when those are down. 1: no spreading; the path that shares no link with the best one is known all the same.",
    ),
    key(
        "routing.weights_control",
        Kind::Weights,
        WEIGHTS,
        "What the cost of a path is made of for control traffic, as `latency=1,hop=50`; see Weights.",
    ),
    key("routing.weights_priority", Kind::Weights, WEIGHTS, "The same for priority traffic."),
    key(
        "routing.weights_bulk",
        Kind::Weights,
        WEIGHTS,
        "The same for bulk traffic, which is what streams carry.",
    ),
    key(
        "admission.handshake_timeout_ms",
        Kind::Number { min: 100, max: 60_000 },
        "5000",
        "How long a connection may take from its first byte to its accepted Hello, in milliseconds.",
    ),
    key(
        "admission.handshakes_max",
        Kind::Number { min: 1, max: 65_536 },
        "64",
        "Handshakes in flight. Connections beyond it wait in the kernel's queue.",
    ),
    key(
        "admission.accepts_per_second_per_address",
        Kind::Number { min: 1, max: 1_000_000 },
        "50",
        "Connections that one address may open a second; those beyond it are closed.",
    ),
    key(
        "admission.request_bytes_max",
        Kind::Number { min: 1024, max: 65_536 },
        "8192",
        "Longest HTTP request head, in bytes.",
    ),
    key(
        "api.listen",
        Kind::AddressOrNone,
        "0.0.0.0:7481",
        "Where gRPC is served with TLS to members of the mesh, beside the socket in the data directory. `none`: on the socket alone.",
    ),
    key(
        "api.operators",
        Kind::Nodes,
        "",
        "Ids of the members that may change this node over TCP: drain it, stop it, set routes, issue tokens and the like. Other members may read and use streams there. The socket in the data directory is not affected.",
    ),
    key(
        "api.spin_us",
        Kind::Number { min: 0, max: SPIN_US_MAX },
        "",
        "How long an API thread looks for work before it sleeps, in microseconds. Unset: the profile's.",
    ),
    key(
        "cores.shards",
        Kind::Processors,
        "",
        "Processors of the shards, one shard each. Unset: the profile's choice.",
    ),
    key(
        "cores.control",
        Kind::Processors,
        "",
        "Processors that the control thread may run on, any of them. Unset: the profile's choice.",
    ),
    key(
        "cores.api",
        Kind::Processors,
        "",
        "Processors of the API threads, one thread each. Unset: the profile's choice.",
    ),
    key(
        "shards.driver",
        Kind::Choice(&["auto", "io_uring", "epoll"]),
        "auto",
        "How shards wait for sockets. `auto`: io_uring, and epoll with a line in the log where the system refuses it. `io_uring`: the node does not start without.",
    ),
    key(
        "shards.spin_us",
        Kind::Number { min: 0, max: SPIN_US_MAX },
        "",
        "How long a shard looks for work before it parks, in microseconds. Unset: the profile's.",
    ),
    key(
        "sockets.send_buffer_bytes",
        Kind::Number { min: 0, max: SOCKET_BUFFER_BYTES_MAX },
        "",
        "Send buffer of a lane's socket. 0: the kernel tunes it. Unset: the profile's.",
    ),
    key(
        "sockets.receive_buffer_bytes",
        Kind::Number { min: 0, max: SOCKET_BUFFER_BYTES_MAX },
        "",
        "Receive buffer of a lane's socket. 0: the kernel tunes it. Unset: the profile's.",
    ),
    key(
        "sockets.congestion_control",
        Kind::Choice(&["auto", "system"]),
        "auto",
        "Congestion control of lanes' sockets. `system`: what the kernel gives (`sysctl net.ipv4.tcp_congestion_control`). `auto`: the same, but where that is `bbr` a lane has `cubic`, or `reno` if that is refused, unless its least round trip turns out to be a millisecond or more: pacing costs most on short paths and gains nothing there.",
    ),
    key(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "Form of the lines on standard error.",
    ),
    Key {
        name: "log.level",
        kind: Kind::LogLevel,
        default: "info",
        applies: Applies::Reload,
        doc: "Least severe level that is logged: `error`, `warn`, `info`, `debug`, `trace`; by target with commas: `info,hawser_plane=debug`.",
    },
];

impl Key {
    /// The key called `name`.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key whose name is nearest to `name`, if any is near enough to have been meant.
    pub(crate) fn nearest(name: &str) -> Option<&'static str> {
        Self::nearest_of(KEYS, name)
    }

    /// Likewise, of these keys.
    pub(crate) fn nearest_of(keys: &[Self], name: &str) -> Option<&'static str> {
        // A key may be misspelt, or right and in the wrong section.
        let leaf = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let score = |key: &Self| {
            let whole = strsim::normalized_damerau_levenshtein(key.name, name);
            let part = strsim::normalized_damerau_levenshtein(&leaf(key.name), &leaf(name));
            whole.max(part * 0.9)
        };
        keys.iter()
            .map(|key| (score(key), key.name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(score, _)| *score >= 0.5)
            .map(|(_, name)| name)
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("HAWSER_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Its default; none if it is unset.
    pub(crate) fn default_value(&self) -> Option<Value> {
        if self.default.is_empty() {
            return None;
        }
        Value::from_text(self.kind, self.default).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers::PEER_KEYS;
    use super::*;

    /// A reference part of `docs/configuration.md`.
    fn reference_markdown(keys: &[Key]) -> String {
        let mut page = String::from("| Key | Default | Applies | Meaning |\n|---|---|---|---|\n");
        for key in keys {
            let default = match (key.default, key.kind) {
                ("", Kind::Addresses | Kind::Nodes) => "`[]`".to_owned(),
                ("", _) => "unset".to_owned(),
                (text, Kind::Flag | Kind::Number { .. } | Kind::Processors) => format!("`{text}`"),
                (text, _) => format!("`\"{text}\"`"),
            };
            page.push_str(&format!(
                "| `{}` | {default} | {} | {} |\n",
                key.name,
                key.applies.text(),
                key.doc
            ));
        }
        page
    }

    #[test]
    fn every_default_has_the_form_of_its_key() {
        for (key, parts) in
            KEYS.iter().map(|key| (key, 2)).chain(PEER_KEYS.iter().map(|key| (key, 3)))
        {
            assert!(!key.doc.is_empty() && !key.doc.contains('|'), "{}", key.name);
            assert_eq!(key.name.split('.').count(), parts, "{}", key.name);
            if !key.default.is_empty() {
                Value::from_text(key.kind, key.default).expect(key.name);
            }
        }
    }

    #[test]
    fn the_nearest_name_is_given() {
        for (written, meant) in [
            ("lanes.lisen", Some("lanes.listen")),
            ("lane.listen", Some("lanes.listen")),
            ("node.dail", Some("lanes.dial")),
            ("api.handshake_timeout_ms", Some("admission.handshake_timeout_ms")),
            ("log.levels", Some("log.level")),
            ("zzz.qqqqqq", None),
        ] {
            assert_eq!(Key::nearest(written), meant, "{written}");
        }
    }

    #[test]
    fn the_page_says_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        for (name, table) in [("keys", KEYS), ("peer keys", PEER_KEYS)] {
            let (begin, end) =
                (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
            let page = std::fs::read_to_string(path).unwrap();
            let (before, rest) = page.split_once(&begin).unwrap();
            let (keys, after) = rest.split_once(&end).unwrap();
            let expected = reference_markdown(table);
            if keys != expected && std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
                continue;
            }
            assert_eq!(keys, expected, "run the test with UPDATE_DOCS=1 and look at the page");
        }
    }
}
