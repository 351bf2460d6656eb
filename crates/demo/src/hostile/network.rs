//! Attacks by the network: there is none, so everything that reaches someone is a breach.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use demo::report::Layer;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};
use sys::raw;

use crate::door::endpoint;
use crate::egress;
use crate::probe::{Attempts, CONTAINER, EVERYWHERE, KILLED, Place, Probe, Verdict, io, short};

/// How long an answer may take: a machine next door answers sooner.
const WAIT: Duration = Duration::from_secs(2);

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Vm, places: EVERYWHERE, deaths: KILLED, seconds: 90, run }
}

const fn inside(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { layer: Layer::Container, places: CONTAINER, ..probe(id, title, attempt, run) }
}

pub(crate) const PROBES: &[Probe] = &[
    probe("interfaces", "network interfaces", "looks for an interface besides the loopback", interfaces),
    probe("public-addresses", "the internet", "connects to public IPv4 and IPv6 addresses", public),
    probe("metadata", "cloud metadata", "connects to 169.254.169.254 and its like", metadata),
    probe("dns", "DNS", "asks public, configured and local resolvers for a name", dns),
    inside("raw-sockets", "raw sockets", "opens raw and packet sockets", raw_sockets),
    inside(
        "socket-families",
        "rare socket families",
        "opens sockets of families with a history of holes",
        families,
    ),
    inside("netlink", "network settings", "changes the loopback, routes and audit rules by netlink", netlink),
    probe("vm-sockets", "VM sockets", "connects to the host by AF_VSOCK", vm_sockets),
    Probe {
        places: &[Place::Container, Place::FromContainer],
        layer: Layer::Container,
        // 65,535 connections, on a machine that may be emulated and busy.
        seconds: 600,
        ..probe(
            "loopback-ports",
            "loopback",
            "connects to every port of the loopback but the endpoints'",
            loopback,
        )
    },
    inside(
        "unix-sockets",
        "Unix sockets",
        "connects to every Unix socket that /proc/net/unix names",
        unix_sockets,
    ),
];

fn interfaces() -> Verdict {
    let mut attempts = Attempts::default();
    match fs::read_to_string("/proc/net/dev") {
        Ok(text) => {
            let names: Vec<&str> =
                text.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim).collect();
            match names.iter().find(|name| **name != "lo") {
                Some(name) => attempts.worked("interface", *name),
                None => attempts.stopped("interfaces", "only lo"),
            }
        }
        Err(e) => attempts.stopped("/proc/net/dev", short(&e)),
    }
    attempts.verdict("nothing was tried")
}

fn connect(attempts: &mut Attempts, address: &str) {
    let Ok(parsed) = address.parse::<SocketAddr>() else { return };
    attempts.take_any(address, TcpStream::connect_timeout(&parsed, WAIT));
}

fn public() -> Verdict {
    let mut attempts = Attempts::default();
    for address in
        ["1.1.1.1:443", "8.8.8.8:53", "93.184.215.14:80", "[2606:4700:4700::1111]:443", "10.0.2.2:80"]
    {
        connect(&mut attempts, address);
    }
    attempts.verdict("nothing was tried")
}

fn metadata() -> Verdict {
    let mut attempts = Attempts::default();
    for address in ["169.254.169.254:80", "169.254.170.2:80", "100.100.100.200:80", "[fd00:ec2::254]:80"] {
        connect(&mut attempts, address);
    }
    attempts.verdict("nothing was tried")
}

/// A question for the address of `example.com`.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

fn dns() -> Verdict {
    let configured = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let configured = configured.lines().filter_map(|l| l.strip_prefix("nameserver")?.trim().parse().ok());
    let known = ["8.8.8.8", "1.1.1.1", "127.0.0.53", "127.0.0.1", "10.0.2.3"].map(str::parse::<IpAddr>);
    let mut servers: Vec<IpAddr> = known.into_iter().flatten().chain(configured.take(4)).collect();
    servers.sort();
    servers.dedup();
    let mut attempts = Attempts::default();
    for server in servers {
        attempts.take_any(server.to_string(), ask(server));
    }
    attempts.verdict("nothing was tried")
}

fn ask(server: IpAddr) -> io::Result<usize> {
    let socket = UdpSocket::bind(if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.connect((server, 53))?;
    socket.send(QUESTION)?;
    socket.recv(&mut [0; 512])
}

fn raw_sockets() -> Verdict {
    let mut attempts = Attempts::default();
    let all = i32::from(3_u16.to_be()); // every protocol, for packet sockets
    for (name, family, kind, protocol) in [
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, all),
        ("packet, cooked", libc::AF_PACKET, libc::SOCK_DGRAM, all),
    ] {
        attempts.take(name, raw::socket(family, kind, protocol));
    }
    attempts.verdict("nothing was tried")
}

fn families() -> Verdict {
    let mut attempts = Attempts::default();
    for (name, family, kind, protocol) in [
        ("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("AF_BLUETOOTH", libc::AF_BLUETOOTH, libc::SOCK_RAW, 1),
        ("AF_CAN", libc::AF_CAN, libc::SOCK_RAW, 1),
        ("AF_TIPC", libc::AF_TIPC, libc::SOCK_STREAM, 0),
        ("AF_RDS", libc::AF_RDS, libc::SOCK_SEQPACKET, 0),
        ("AF_KEY", libc::AF_KEY, libc::SOCK_RAW, 2),
        ("AF_NFC", libc::AF_NFC, libc::SOCK_SEQPACKET, 1),
        ("AF_XDP", libc::AF_XDP, libc::SOCK_RAW, 0),
        ("AF_PPPOX", libc::AF_PPPOX, libc::SOCK_STREAM, 0),
        ("SCTP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("MPTCP", libc::AF_INET, libc::SOCK_STREAM, 262),
        ("netfilter", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        ("xfrm", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_XFRM),
    ] {
        attempts.take(name, raw::socket(family, kind, protocol));
    }
    attempts.verdict("nothing was tried")
}

/// `RTM_NEWLINK` that sets the MTU of interface 1, with a request for an acknowledgement.
fn new_link() -> [u8; 40] {
    let mut message = [0_u8; 40];
    let parts: [(usize, &[u8]); 7] = [
        (0, &40_u32.to_ne_bytes()),
        (4, &16_u16.to_ne_bytes()),
        (6, &5_u16.to_ne_bytes()),
        (8, &1_u32.to_ne_bytes()),
        (20, &1_u32.to_ne_bytes()),
        (32, &8_u16.to_ne_bytes()),
        (34, &4_u16.to_ne_bytes()),
    ];
    for (at, bytes) in parts {
        if let Some(place) = message.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    if let Some(mtu) = message.get_mut(36..40) {
        mtu.copy_from_slice(&65_000_u32.to_ne_bytes());
    }
    message
}

fn netlink() -> Verdict {
    let mut attempts = Attempts::default();
    attempts.take("MTU of the loopback", change_loopback());
    attempts.take("audit", raw::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT));
    attempts
        .take("kernel events", raw::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT));
    attempts.verdict("nothing was tried")
}

fn change_loopback() -> io::Result<()> {
    let socket = raw::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    io(send(socket.as_raw_fd(), &new_link(), MsgFlags::empty()))?;
    let mut reply = [0_u8; 512];
    let read = io(recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()))?;
    let code =
        reply.get(16..20).filter(|_| read >= 20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn vm_sockets() -> Verdict {
    let mut attempts = Attempts::default();
    for port in [22, 80, 1024, 9999] {
        let connected = raw::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
            .and_then(|socket| raw::connect_to_vm_host(&socket, port));
        attempts.take_any(format!("port {port}"), connected);
    }
    attempts.verdict("nothing was tried")
}

/// Where the tools' endpoint is: it leads to the door too.
const TOOLS_PORT: u16 = 8182;

fn loopback() -> Verdict {
    let allowed = [endpoint().port(), TOOLS_PORT, egress::PORT];
    let mut attempts = Attempts::default();
    let mut refused = 0_u32;
    for port in (1..=u16::MAX).filter(|port| !allowed.contains(port)) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            // A connection from a port to itself is nobody else's.
            Ok(stream) if stream.local_addr().ok() == Some(address) => {}
            Ok(mut stream) => {
                let greeting = stream
                    .set_read_timeout(Some(Duration::from_millis(300)))
                    .and_then(|()| stream.read(&mut [0; 64]))
                    .unwrap_or(0);
                attempts.worked(format!("port {port}"), format!("open, {greeting} bytes of greeting"));
            }
            Err(_closed) => refused += 1,
        }
    }
    attempts.stopped(format!("{refused} ports"), "refused");
    attempts.verdict("nothing was tried")
}

fn unix_sockets() -> Verdict {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let mut attempts = Attempts::default();
    let listed = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for path in listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).take(200) {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        };
        attempts.take_any(path, address.and_then(|a| UnixStream::connect_addr(&a)));
    }
    attempts.verdict("no socket is to be seen")
}
