//! Names to addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use futures::FutureExt as _;
use futures::future::BoxFuture;

/// Addresses that no machine has (RFC 5737, RFC 3849).
const NOBODYS_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODYS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Knows the addresses of hosts.
pub trait Resolve: Send + Sync {
    /// All addresses of a host.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    }
}

/// Whether an address is one of this machine's own, as only the system knows: then, and only then, it can be listened at. Nothing
/// is sent.
pub(crate) fn is_here(address: IpAddr) -> bool {
    let none: IpAddr = match address {
        IpAddr::V4(_) => NOBODYS_V4.into(),
        IpAddr::V6(_) => NOBODYS_V6.into(),
    };
    let listens = |at: IpAddr| UdpSocket::bind((at, 0)).is_ok();
    if !listens(none) {
        return listens(address);
    }
    // Here one may listen at any address (`ip_nonlocal_bind`): what would be sent to an own one would come from there.
    let any = SocketAddr::new(
        if none.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
        0,
    );
    let from = UdpSocket::bind(any).and_then(|socket| {
        socket.connect((address, 1))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_known() {
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("192.0.2.7", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(is_here(address.parse().unwrap()), here, "{address}");
        }
    }
}
