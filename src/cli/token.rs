//! `hawser token`.

use clap::Subcommand;
use hawser_proto::v1::IssueTokenReq;
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::{Output, counted, say};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a single-use token for one node to join with. The node that seeded the mesh can.
    Issue {
        /// Lifetime: seconds, or a number with s, m, h or d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_lifetime)]
        ttl: u32,
        /// Only the node with this id can use the token.
        #[arg(long, value_name = "ID", default_value = "")]
        node: String,
        /// Address that the joining node shall dial, host:port, in place of this node's own.
        #[arg(long, default_value = "")]
        address: String,
    },
}

#[derive(Serialize)]
struct TokenRow {
    token: String,
    expires_unix_s: u64,
}

/// # Errors
/// Whatever the node answers.
pub(crate) async fn run(command: TokenCommand, target: Target, out: Output) -> Result<(), Failure> {
    let TokenCommand::Issue { ttl, node, address } = command;
    let request = IssueTokenReq { ttl_seconds: ttl, node_id: node, address };
    let issued = target.mesh().await?.issue_token(request).await?.into_inner();
    let row = TokenRow { token: issued.token, expires_unix_s: issued.expires_unix_s };
    out.value(&row, || format!("{}\n", row.token))?;
    if !out.is_json() {
        say(&format!("good for one node, for {}", lifetime_text(ttl)));
    }
    Ok(())
}

/// In the largest unit that leaves no rest.
fn lifetime_text(seconds: u32) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    counted(u64::from(seconds / unit), name)
}

/// Seconds, at least 1.
fn parse_lifetime(text: &str) -> Result<u32, String> {
    let wrong = || "a number of seconds, or one with s, m, h or d: 900, 15m, 24h".to_owned();
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_units() {
        for (text, seconds) in [("90", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_lifetime(text), Ok(seconds));
        }
        for (seconds, text) in [
            (1, "1 second"),
            (90, "90 seconds"),
            (900, "15 minutes"),
            (3600, "1 hour"),
            (604_800, "7 days"),
        ] {
            assert_eq!(lifetime_text(seconds), text);
        }
        for text in ["", "0", "m", "-1s", "1y", "99999999d"] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }
}
