//! `hawser route drill`: what really happens when a link breaks.

use clap::Args;
use hawser_proto::v1::{DrillLinkReq, DrillReport};
use serde::Serialize;

use super::shown;
use crate::cli::client::Target;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::table::{Align, Table};

#[derive(Args, Debug)]
pub(crate) struct DrillArgs {
    /// The link, by its ends; one of them is the node that is asked.
    #[arg(long, value_name = "A,B")]
    link: String,
    /// How long it is cut, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=60_000))]
    cut_ms: u32,
    /// Also if something that this node sends over it has no backup, and may be cut off meanwhile.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct DrillRow<'a> {
    peer: &'a str,
    cut_ms: f64,
    reroute_ms: f64,
    return_ms: f64,
    /// None if the link was not up half a minute after it was restored.
    back_after_ms: Option<f64>,
    probes: u64,
    lost: u64,
    duplicated: u64,
}

/// # Errors
/// Whatever the node answers; [`Exit::Loss`] if a probe was lost; that the link is not up again.
pub(super) async fn run(args: DrillArgs, target: Target, out: Output) -> Result<(), Failure> {
    let Some((a, b)) = args.link.split_once(',') else {
        let why = format!("{:?} is no link: name its two nodes, as in A,B", args.link);
        return Err(Failure::usage(why));
    };
    let DrillArgs { cut_ms, force, .. } = args;
    let request = DrillLinkReq { a: a.to_owned(), b: b.to_owned(), cut_ms, force };
    let found = target.mesh().await?.drill_link(request).await?.into_inner();
    let DrillReport { ref peer, probes, lost, duplicated, .. } = found;
    let ms = |us: u64| us as f64 / 1e3;
    let row = DrillRow {
        peer: peer.as_ref().map_or("", shown),
        cut_ms: ms(found.cut_us),
        reroute_ms: ms(found.pause_us),
        return_ms: ms(found.pause_at_return_us),
        back_after_ms: found.back_after_us.map(ms),
        probes,
        lost,
        duplicated,
    };
    out.value(&row, || text_of(&row))?;
    if row.back_after_ms.is_none() {
        let peer = row.peer;
        let why =
            format!("the link to {peer} was not up again after 30 s; the node goes on dialling");
        return Err(Failure::plain(why));
    }
    // One that came twice is no failure: what is under way on a link that breaks leaves over another way
    // as well, and a datagram has nobody who removes what comes again.
    if lost > 0 {
        return Err(Failure::new(Exit::Loss, format!("{lost} of {probes} probes were lost")));
    }
    Ok(())
}

fn text_of(row: &DrillRow<'_>) -> String {
    let columns = [("", Align::Left), ("", Align::Right)];
    let mut table = Table::new(&columns, "");
    let ms = |ms: f64| format!("{ms:.1} ms");
    let back = row.back_after_ms.map_or_else(|| "not in 30 s".to_owned(), ms);
    for (what, value) in [
        ("link to", row.peer.to_owned()),
        ("cut for", ms(row.cut_ms)),
        ("longest pause while it was cut", ms(row.reroute_ms)),
        ("up again after", back),
        ("longest pause after the cut", ms(row.return_ms)),
        ("probes", row.probes.to_string()),
        ("lost", row.lost.to_string()),
        ("duplicated", row.duplicated.to_string()),
    ] {
        table.row([what.to_owned(), value]);
    }
    table.to_string().trim_start().to_owned()
}
