//! Names to addresses, and which addresses are this machine's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// An address that no machine has (RFC 3849).
const NOBODYS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Knows the addresses of hosts.
pub trait Resolve: Send + Sync {
    /// All addresses of a host.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Whether an address is one of this machine's own.
    ///
    /// # Errors
    /// When the system can't tell.
    fn is_here(&self, address: IpAddr) -> io::Result<bool> {
        is_here(address)
    }
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    }
}

/// Whether an address is one of this machine's own, as only the system knows. Nothing is sent.
fn is_here(address: IpAddr) -> io::Result<bool> {
    unless_nowhere(match address {
        IpAddr::V4(address) => has_device(address),
        IpAddr::V6(address) => can_listen(address),
    })
}

/// Whether a device here has this address: then, and only then, it can be named by that. Whether one can listen at it tells less:
/// with `ip_nonlocal_bind` at any.
fn has_device(address: Ipv4Addr) -> io::Result<bool> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ip_multicast_if(socket, &address)?;
    Ok(true)
}

/// Whether one can listen at an address, and not at any: there, what would be sent to an own one would come from there.
fn can_listen(address: Ipv6Addr) -> io::Result<bool> {
    drop(UdpSocket::bind((address, 0))?);
    match unless_nowhere(UdpSocket::bind((NOBODYS, 0)).map(|_socket| true))? {
        true => is_left_from(address),
        false => Ok(true),
    }
}

fn is_left_from(address: Ipv6Addr) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.connect((address, 1))?;
    Ok(socket.local_addr()?.ip() == address)
}

/// No, where the system knows no such address, or no way there. All else that it says (too many open files, say) tells nothing of
/// the address, and must not be taken for a no.
fn unless_nowhere(answer: io::Result<bool>) -> io::Result<bool> {
    const NOWHERE: [Errno; 4] =
        [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::NETUNREACH, Errno::HOSTUNREACH];
    match answer {
        Err(error) if Errno::from_io_error(&error).is_some_and(|error| NOWHERE.contains(&error)) => Ok(false),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_known() {
        // Where IPv6 is off, no address of it is here.
        let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let six = six.lines().any(|line| line.starts_with(&format!("{:032x}", 1)));
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", six),
            ("192.0.2.7", false),
            ("2001:db8::7", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(System.is_here(address).unwrap(), here, "{address}");
            if let IpAddr::V6(address) = address {
                let left = unless_nowhere(is_left_from(address)).unwrap();
                assert_eq!(left, here, "{address}, where one may listen at any");
            }
        }
    }

    #[test]
    fn what_the_system_can_not_tell_is_no_no() {
        for error in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::NETUNREACH, Errno::HOSTUNREACH] {
            assert!(!unless_nowhere(Err(error.into())).unwrap(), "{error}");
        }
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRINUSE, Errno::PERM]
        {
            assert_eq!(Errno::from_io_error(&unless_nowhere(Err(error.into())).unwrap_err()), Some(error));
        }
    }
}
