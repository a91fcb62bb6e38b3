#![expect(unsafe_code, reason = "no safe wrapper has this socket option")]

use std::ffi::c_int;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Whoever waits to read from the socket is woken once so many bytes are there, or the peer has closed
/// (socket(7), SO_RCVLOWAT): a link that is slow beside this host brings a record in many packets, each
/// of which would wake its reader for nothing. A read itself takes what is there.
///
/// # Errors
/// What the kernel says; the mark is as before.
pub(crate) fn set_receive_low_water(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).map_err(io::Error::other)?;
    let len = libc::socklen_t::try_from(size_of::<c_int>()).map_err(io::Error::other)?;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `len` bytes, those of `bytes`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const bytes).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        writer.set_nodelay(true).unwrap();
        (writer, listener.accept().unwrap().0)
    }

    fn is_readable(socket: &TcpStream) -> bool {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    /// Waits until so many bytes have come.
    fn await_bytes(socket: &TcpStream, bytes: u64) {
        let until = Instant::now() + PATIENCE;
        while rustix::io::ioctl_fionread(socket).unwrap() < bytes {
            assert!(Instant::now() < until, "they never came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_reader_is_woken_once_so_many_bytes_are_there() {
        let (mut writer, mut reader) = pair();
        set_receive_low_water(&reader, 4000).unwrap();
        writer.write_all(&[1; 3999]).unwrap();
        await_bytes(&reader, 3999);
        assert!(!is_readable(&reader));
        writer.write_all(&[2]).unwrap();
        await_bytes(&reader, 4000);
        assert!(is_readable(&reader));
        reader.read_exact(&mut [0; 4000]).unwrap();
        set_receive_low_water(&reader, 1).unwrap();
        writer.write_all(&[3]).unwrap();
        await_bytes(&reader, 1);
        assert!(is_readable(&reader));
    }

    #[test]
    fn a_reader_is_woken_when_the_peer_has_closed_with_less() {
        let (mut writer, reader) = pair();
        set_receive_low_water(&reader, 4000).unwrap();
        writer.write_all(&[1; 10]).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1);
    }
}
