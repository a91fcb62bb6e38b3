#![allow(clippy::all, missing_docs)]
use hawser_sim::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (names, from, count, minutes): (&str, u64, u64, u64) =
        (&a[1], a[2].parse().unwrap(), a[3].parse().unwrap(), a[4].parse().unwrap());
    let all: Vec<World> = worlds().into_iter().chain(congested_worlds()).collect();
    for w in all.iter().filter(|w| names == "all" || names.split(',').any(|n| n == w.name)) {
        let start = std::time::Instant::now();
        let next = AtomicU64::new(from);
        let out = Mutex::new((0u64, 0u64, Vec::new()));
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || start.elapsed().as_secs() > 100 { return; }
                    let r = Simulation::new(w.clone(), seed).run(minutes);
                    let mut o = out.lock().unwrap();
                    match r { Ok(s) => { o.0 += 1; o.1 += s.messages; } Err(f) => o.2.push(f) }
                });
            }
        });
        let mut o = out.into_inner().unwrap();
        o.2.sort_by_key(|f| f.seed);
        println!("{:15} ok {:4} bad {:3} msgs {} {:.1}s", w.name, o.0, o.2.len(), o.1, start.elapsed().as_secs_f64());
        for f in o.2.iter().take(3) { println!("    {f}"); }
        if a.len() > 5 { for e in o.2.first().iter().flat_map(|f| f.recent.iter()) { println!("       {e}"); } }
    }
}
