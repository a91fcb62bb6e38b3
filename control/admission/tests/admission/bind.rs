use std::sync::Arc;

use hawser_admission::{Acceptor, AdmissionError, AdmissionLimits, SocketOptions};
use tokio::net::TcpStream;

use crate::mesh::{Mesh, Running, within};

fn bind(address: &str) -> Result<Acceptor, AdmissionError> {
    let local = Arc::new(Mesh::new().member("b"));
    Acceptor::bind(address, local, AdmissionLimits::default(), SocketOptions::default())
}

#[tokio::test]
async fn port_in_use() {
    let running = Running::start(&Mesh::new().member("b"));
    let address = running.address.to_string();
    let text = bind(&address).unwrap_err().to_string();
    assert!(text.contains(&address), "{text}");
    assert!(text.contains("in use"), "{text}");
    assert!(text.contains("choose another"), "{text}");
}

#[tokio::test]
async fn address_of_another_host() {
    let text = bind("192.0.2.1:7480").unwrap_err().to_string();
    assert!(text.contains("192.0.2.1:7480"), "{text}");
    assert!(text.contains("no interface"), "{text}");
}

#[tokio::test]
async fn no_address() {
    for wrong in ["", "7480", "127.0.0.1", "127.0.0.1:http"] {
        let error = bind(wrong).unwrap_err();
        assert!(matches!(error, AdmissionError::Address { .. }), "{wrong:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_port_is_free_again_when_the_acceptor_ends() {
    let mut running = Running::start(&Mesh::new().member("b"));
    let address = running.address;
    let mut half_open = within(TcpStream::connect(address)).await.unwrap();
    running.accepted.close();
    within(&mut running.task).await.unwrap();
    let mut rest = [0; 1];
    let _closed = within(tokio::io::AsyncReadExt::read(&mut half_open, &mut rest)).await;
    assert_eq!(bind(&address.to_string()).unwrap().local_addr(), address);
}
