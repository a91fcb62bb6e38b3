//! What no daemon can beat: the same bytes through as many plain blocking TCP sockets in a row,
//! with relays between that do nothing but copy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::machine::{now_ns, pin};

/// Bytes that source, relays and sink read or write at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Time for the sockets' buffers to grow, before counting.
const WARM_UP: Duration = Duration::from_millis(300);

/// Sends bytes through `stages.len() - 1` sockets for `window`. Each element of `stages` holds the
/// cores of one stage: source, relays, sink. Returns bytes per second at the sink.
pub(crate) fn measure(stages: &[Vec<usize>], window: Duration) -> Result<f64> {
    let (source_cores, rest) = stages.split_first().context("a chain of no stages")?;
    let (sink_cores, relays_cores) = rest.split_last().context("a chain of one stage")?;
    let (first_end, mut upstream) = socket_pair()?;
    let mut threads: Vec<JoinHandle<Result<()>>> = Vec::new();
    for cores in relays_cores {
        let (to, next_upstream) = socket_pair()?;
        let from = std::mem::replace(&mut upstream, next_upstream);
        let cores = cores.clone();
        threads.push(thread::spawn(move || relay(from, to, &cores)));
    }
    let cores = source_cores.clone();
    threads.push(thread::spawn(move || source(first_end, &cores)));
    let cores = sink_cores.clone();
    let sink = thread::spawn(move || sink(upstream, &cores, window));
    let rate = sink.join().map_err(|_panic| anyhow!("the chain's sink panicked"))?;
    // The sink's end breaks the chain from its far end backwards; a broken pipe is how it ends.
    for thread in threads {
        thread.join().map_err(|_panic| anyhow!("a stage of the chain panicked"))??;
    }
    rate
}

/// The same, beside whatever the runtime has to do meanwhile.
pub(crate) async fn measure_aside(stages: Vec<Vec<usize>>, window_s: f64) -> Result<f64> {
    let window = Duration::from_secs_f64(window_s);
    tokio::task::spawn_blocking(move || measure(&stages, window)).await?
}

/// Both ends of a TCP connection over loopback: for writing, for reading.
fn socket_pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("chain")?;
    let near = TcpStream::connect(listener.local_addr()?).context("chain")?;
    let (far, _) = listener.accept().context("chain")?;
    near.set_nodelay(true)?;
    Ok((near, far))
}

fn source(mut to: TcpStream, cores: &[usize]) -> Result<()> {
    pin(cores)?;
    let buffer = vec![0x5A; BUFFER_BYTES];
    while to.write_all(&buffer).is_ok() {}
    Ok(())
}

fn relay(mut from: TcpStream, mut to: TcpStream, cores: &[usize]) -> Result<()> {
    pin(cores)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if to.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
    // Both ends, so that whoever is blocked on either wakes.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    Ok(())
}

fn sink(mut from: TcpStream, cores: &[usize], window: Duration) -> Result<f64> {
    pin(cores)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let warm_ns = now_ns() + u64::try_from(WARM_UP.as_nanos())?;
    let window_ns = u64::try_from(window.as_nanos())?;
    let mut open_ns = None;
    let mut bytes = 0_u64;
    loop {
        let length = from.read(&mut buffer).context("chain")?;
        let now = now_ns();
        if length == 0 {
            return Err(anyhow!("the chain broke"));
        }
        match open_ns {
            None if now >= warm_ns => open_ns = Some(now),
            None => {}
            Some(open) => {
                bytes += length as u64;
                if now - open >= window_ns {
                    let _ = from.shutdown(Shutdown::Both);
                    return Ok(bytes as f64 * 1e9 / (now - open) as f64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_carries_bytes_and_ends() {
        for relays in 0..3 {
            let stages = vec![Vec::new(); relays + 2];
            let rate = measure(&stages, Duration::from_millis(50)).unwrap();
            assert!(rate > 1e6, "{relays} relays: {rate} bytes/s");
        }
    }
}
