//! Lanes and admissions over real sockets on 127.0.0.1 and real TLS.

mod bind;
mod fragment;
mod identity;
mod join;
mod lane;
mod mesh;
mod patience;
mod protocol;
mod proxy;
mod raw_peer;
