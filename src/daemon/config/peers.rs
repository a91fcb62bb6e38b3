//! `[[links.peer]]`: what differs on the links to single neighbours.

use std::collections::BTreeMap;

use hawser_exchange::LanePolicyMode;
use hawser_plane::{LaneRuleChoice, PeerSelector};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind, key};
use super::settings::Origin;
use super::value::Value;

/// The section, as `[[links.peer]]` in a file. Environment and command line have none of it.
pub(super) const SECTION: (&str, &str) = ("links", "peer");

const NAME: &str = "links.peer.name";
const ID: &str = "links.peer.id";
const BULK_LANES_MAX: &str = "links.peer.bulk_lanes_max";
const LANE_POLICY: &str = "links.peer.lane_policy";
const ADMIN: &str = "links.peer.admin";

/// In the order of the page.
pub(crate) const PEER_KEYS: &[Key] = &[
    key(
        NAME,
        Kind::Name,
        "",
        "Name of the neighbour, as `mesh status` shows it. Each entry has either this or `id`.",
    ),
    key(
        ID,
        Kind::Node,
        "",
        "Its id. Where one entry names a neighbour and another has its id, the latter goes before.",
    ),
    key(
        BULK_LANES_MAX,
        Kind::Number { min: 1, max: 4 },
        "",
        "Most bulk lanes of the link to it. Unset: `links.bulk_lanes_max`.",
    ),
    key(
        LANE_POLICY,
        Kind::Choice(&["on", "dry-run", "off"]),
        "",
        "Whether bulk lanes of the link to it are opened and closed by need. Unset: `links.lane_policy`.",
    ),
    key(
        ADMIN,
        Kind::Number { min: 0, max: 65_535 },
        "",
        "What the way to it costs more, in hops: counts for classes whose weights have `hop`. Announced to the mesh; for the way back it is said at the other end. Unset: 0.",
    ),
];

/// The entries, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(Vec<Peer>);

#[derive(Clone, Debug)]
struct Peer {
    origin: Origin,
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl Peer {
    fn text(&self, name: &str) -> Option<&str> {
        match &self.values.get(name)?.0 {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.values.get(name)?.0 {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn selector(&self) -> Option<PeerSelector> {
        let id = self.text(ID).and_then(|id| id.parse().ok()).map(PeerSelector::Id);
        id.or_else(|| self.text(NAME).map(|name| PeerSelector::Name(name.to_owned())))
    }
}

impl Peers {
    /// Reads the section, noting what is wrong in `problems`.
    pub(super) fn read(
        &mut self,
        section: &Spanned<DeValue<'_>>,
        at: &dyn Fn(usize) -> Origin,
        problems: &mut Vec<String>,
    ) {
        let DeValue::Array(entries) = section.get_ref() else {
            let origin = at(section.span().start);
            problems
                .push(format!("{origin}: links.peer: expected [[links.peer]], once a neighbour"));
            return;
        };
        for entry in entries {
            let origin = at(entry.span().start);
            match entry.get_ref() {
                DeValue::Table(table) => self.read_entry(table, origin, at, problems),
                other => {
                    let found = other.type_str();
                    problems.push(format!(
                        "{origin}: links.peer: expected a table; found a value of type {found}"
                    ));
                }
            }
        }
    }

    fn read_entry(
        &mut self,
        table: &DeTable<'_>,
        origin: Origin,
        at: &dyn Fn(usize) -> Origin,
        problems: &mut Vec<String>,
    ) {
        let mut values = BTreeMap::new();
        for (leaf, value) in table {
            let origin = at(leaf.span().start);
            let name = format!("links.peer.{}", leaf.get_ref());
            match PEER_KEYS.iter().find(|key| key.name == name) {
                None => {
                    let hint = Key::nearest_of(PEER_KEYS, &name).map_or_else(
                        || "`hawser config keys` lists all".to_owned(),
                        |near| format!("did you mean {near}?"),
                    );
                    problems.push(format!("{origin}: unknown configuration key {name}; {hint}"));
                }
                Some(key) => match Value::from_toml(key.kind, value.get_ref()) {
                    Ok(value) => drop(values.insert(key.name, (value, origin))),
                    Err(wrong) => problems.push(format!("{origin}: {name}: {wrong}")),
                },
            }
        }
        let says = |key: &str| key.rsplit('.').next().is_some_and(|leaf| table.contains_key(leaf));
        if says(NAME) == says(ID) {
            problems.push(format!("{origin}: links.peer: say which neighbour by name or by id"));
        } else if table.len() == 1 {
            problems.push(format!(
                "{origin}: links.peer: say bulk_lanes_max, lane_policy or admin of the neighbour"
            ));
        }
        let peer = Peer { origin, values };
        let same = |other: &&Peer| peer.selector().is_some() && other.selector() == peer.selector();
        if let Some(other) = self.0.iter().find(same) {
            let (origin, other) = (&peer.origin, &other.origin);
            problems.push(format!("{origin}: links.peer: the neighbour has an entry at {other}"));
        }
        self.0.push(peer);
    }

    /// What they choose, for whom.
    pub(crate) fn lane_rules(&self) -> Vec<(PeerSelector, LaneRuleChoice)> {
        let choice = |peer: &Peer| LaneRuleChoice {
            bulk_lanes_max: peer.number(BULK_LANES_MAX).and_then(|max| u8::try_from(max).ok()),
            policy: peer.text(LANE_POLICY).and_then(LanePolicyMode::of),
        };
        self.0.iter().filter_map(|peer| Some((peer.selector()?, choice(peer)))).collect()
    }

    /// What they add to the cost of links, in hops.
    pub(crate) fn link_admin(&self) -> Vec<(PeerSelector, u16)> {
        let admin = |peer: &Peer| u16::try_from(peer.number(ADMIN)?).ok();
        self.0.iter().filter_map(|peer| Some((peer.selector()?, admin(peer)?))).collect()
    }

    /// Each value with whom it is about: `links.peer[b].lane_policy`.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (String, &Value, &Origin)> {
        self.0.iter().flat_map(|peer| {
            let whom = peer.text(ID).or_else(|| peer.text(NAME)).unwrap_or_default().to_owned();
            let rules = PEER_KEYS.iter().filter(|key| ![NAME, ID].contains(&key.name));
            rules.filter_map(move |key| {
                let (value, origin) = peer.values.get(key.name)?;
                let leaf = key.name.rsplit('.').next().unwrap_or_default();
                Some((format!("links.peer[{whom}].{leaf}"), value, origin))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::settings::Settings;
    use super::*;

    const ID_TEXT: &str = "gaytemzugu3doobzmfrggzdfmy";

    fn load(toml: &str) -> Result<Peers, String> {
        let mut settings = Settings::default();
        settings.read_toml(Path::new("h.toml"), toml);
        settings.finish().map(|settings| settings.peers).map_err(|failure| failure.message)
    }

    #[test]
    fn each_neighbour_has_its_rule() {
        let toml = format!(
            "[links]\nbulk_lanes_max = 3\n[[links.peer]]\nname = \"b\"\nbulk_lanes_max = 1\n\
             [[links.peer]]\nid = \"{ID_TEXT}\"\nlane_policy = \"dry-run\"\nadmin = 3\n"
        );
        let peers = load(&toml).unwrap();
        let named = LaneRuleChoice { bulk_lanes_max: Some(1), policy: None };
        let by_id = LaneRuleChoice { bulk_lanes_max: None, policy: Some(LanePolicyMode::DryRun) };
        assert_eq!(
            peers.lane_rules(),
            [
                (PeerSelector::Name("b".to_owned()), named),
                (PeerSelector::Id(ID_TEXT.parse().unwrap()), by_id)
            ]
        );
        assert_eq!(peers.link_admin(), [(PeerSelector::Id(ID_TEXT.parse().unwrap()), 3)]);
        let rows: Vec<String> =
            peers.rows().map(|(key, value, origin)| format!("{key} {value} {origin}")).collect();
        let row_of = |row: &str| format!("links.peer[{ID_TEXT}].{row}");
        assert_eq!(
            rows,
            [
                "links.peer[b].bulk_lanes_max 1 h.toml:5",
                &row_of("lane_policy \"dry-run\" h.toml:8"),
                &row_of("admin 3 h.toml:9"),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (entry, message) in [
            (
                "name = \"b\"\nbulk_lane_max = 1\n",
                "h.toml:3: unknown configuration key links.peer.bulk_lane_max; did you mean \
                 links.peer.bulk_lanes_max?",
            ),
            (
                "name = \"b\"\nbulk_lanes_max = 5\n",
                "h.toml:3: links.peer.bulk_lanes_max: expected a whole number from 1 to 4; found 5",
            ),
            (
                "name = \"b\"\nlane_policy = \"default\"\n",
                "h.toml:3: links.peer.lane_policy: expected one of on, dry-run, off; found \
                 \"default\"",
            ),
            (
                "name = \"b\"\nadmin = 65536\n",
                "h.toml:3: links.peer.admin: expected a whole number from 0 to 65535; found 65536",
            ),
            (
                "id = \"b\"\nbulk_lanes_max = 1\n",
                "h.toml:2: links.peer.id: expected a node id; found \"b\"",
            ),
            ("bulk_lanes_max = 1\n", "h.toml:1: links.peer: say which neighbour by name or by id"),
            (
                "name = \"b\"\n",
                "h.toml:1: links.peer: say bulk_lanes_max, lane_policy or admin of the neighbour",
            ),
            (
                "name = \"b\"\nlane_policy = \"on\"\n[[links.peer]]\nname = \"b\"\nbulk_lanes_max = 1\n",
                "h.toml:4: links.peer: the neighbour has an entry at h.toml:1",
            ),
        ] {
            let toml = format!("[[links.peer]]\n{entry}");
            assert_eq!(load(&toml).unwrap_err(), message, "{toml}");
        }
        let both =
            format!("[[links.peer]]\nname = \"b\"\nid = \"{ID_TEXT}\"\nlane_policy = \"on\"");
        assert!(load(&both).unwrap_err().contains("by name or by id"));
        let single = load("[links.peer]\nname = \"b\"\nlane_policy = \"on\"\n").unwrap_err();
        assert!(single.starts_with("h.toml:1: links.peer: expected [[links.peer]]"), "{single}");
    }
}
