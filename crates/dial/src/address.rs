//! Which addresses are the public internet, and what the others are. Whatever isn't known to be public is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address is not the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// No address, or "this network".
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network, or IPv6's unique local addresses.
    Private,
    /// Behind a carrier's address translation.
    Shared,
    /// This link, where clouds also keep their metadata services.
    LinkLocal,
    /// Many receivers.
    Multicast,
    /// Documentation, benchmarks, protocols' own uses.
    Reserved,
    /// An IPv4 address inside of an IPv6 one, by a way that isn't judged.
    Embedded,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "no host's address",
            Self::Loopback => "this machine",
            Self::Private => "a private network",
            Self::Shared => "a carrier's shared network",
            Self::LinkLocal => "the local link, or a cloud's metadata",
            Self::Multicast => "a multicast group",
            Self::Reserved => "reserved",
            Self::Embedded => "an IPv4 address in the form of an IPv6 one",
        })
    }
}

/// IPv4 networks that are not public (RFC 6890 and its registry): address, bits, class.
const V4: &[([u8; 4], u32, Class)] = &[
    ([0, 0, 0, 0], 8, Class::Unspecified),
    ([10, 0, 0, 0], 8, Class::Private),
    ([100, 64, 0, 0], 10, Class::Shared),
    ([127, 0, 0, 0], 8, Class::Loopback),
    // Azure's host, with its keys; it looks public.
    ([168, 63, 129, 16], 32, Class::LinkLocal),
    ([169, 254, 0, 0], 16, Class::LinkLocal),
    ([172, 16, 0, 0], 12, Class::Private),
    ([192, 0, 0, 0], 24, Class::Reserved),
    ([192, 0, 2, 0], 24, Class::Reserved),
    ([192, 88, 99, 0], 24, Class::Reserved),
    ([192, 168, 0, 0], 16, Class::Private),
    ([198, 18, 0, 0], 15, Class::Reserved),
    ([198, 51, 100, 0], 24, Class::Reserved),
    ([203, 0, 113, 0], 24, Class::Reserved),
    ([224, 0, 0, 0], 4, Class::Multicast),
    ([240, 0, 0, 0], 4, Class::Reserved),
];

/// IPv6 networks inside of what is given out as public (`2000::/3`) that are not: first two groups, bits, class.
const V6: &[([u16; 2], u32, Class)] = &[
    ([0x2001, 0], 32, Class::Embedded),      // Teredo
    ([0x2001, 0], 23, Class::Reserved),      // protocols' own, benchmarks, ORCHID
    ([0x2001, 0x0db8], 32, Class::Reserved), // documentation
    ([0x2002, 0], 16, Class::Embedded),      // 6to4
    ([0x3fff, 0], 20, Class::Reserved),      // documentation
];

/// How an IPv4 address begins that is written as an IPv6 one.
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Judges an address: nothing, when it is public.
#[must_use]
pub fn not_public(address: IpAddr) -> Option<Class> {
    match leads_to(address) {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

fn v4(address: Ipv4Addr) -> Option<Class> {
    let bits = address.to_bits();
    let within = |(network, length, _): &&([u8; 4], u32, Class)| {
        (bits ^ u32::from_be_bytes(*network)) >> (32 - length) == 0
    };
    V4.iter().find(within).map(|(_, _, class)| *class)
}

/// Where packets to an address go in the end. What a resolver makes of IPv4 where only IPv6 is routed (RFC 6052, section 2.1) is as
/// good as what it leads to. The local form, 64:ff9b:1::/48, leads where the local network likes, so it isn't judged but refused.
pub(crate) fn leads_to(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.segments().starts_with(&TRANSLATED) => {
            let [.., a, b, c, d] = address.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

fn v6(address: Ipv6Addr) -> Option<Class> {
    let [a, b, c, d, e, f, ..] = address.segments();
    match (a, b, c, d, e, f) {
        _ if address.is_unspecified() => Some(Class::Unspecified),
        _ if address.is_loopback() => Some(Class::Loopback),
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 1, ..) => {
            Some(Class::Embedded)
        }
        _ if a & 0xff00 == 0xff00 => Some(Class::Multicast),
        _ if a & 0xffc0 == 0xfe80 => Some(Class::LinkLocal),
        _ if a & 0xfe00 == 0xfc00 || a & 0xffc0 == 0xfec0 => Some(Class::Private),
        _ if a & 0xe000 != 0x2000 => Some(Class::Reserved),
        _ => {
            let head = u32::from(a) << 16 | u32::from(b);
            let within = |([first, second], length, _): &&([u16; 2], u32, Class)| {
                (head ^ (u32::from(*first) << 16 | u32::from(*second))) >> (32 - length) == 0
            };
            V6.iter().find(within).map(|(_, _, class)| *class)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[(Option<Class>, &[&str])] = &[
        (
            None,
            &[
                "1.1.1.1",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "168.63.129.15",
                "168.63.129.17",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2606:4700:4700::1111",
                "2001:200::1",
                "2003::1",
                "2a00::1",
                "64:ff9b::101:101",
            ],
        ),
        (Some(Class::Unspecified), &["0.0.0.0", "0.1.2.3", "::", "64:ff9b::"]),
        (Some(Class::Loopback), &["127.0.0.1", "127.255.255.255", "::1", "64:ff9b::7f00:1"]),
        (
            Some(Class::Private),
            &[
                "10.0.0.0",
                "10.255.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "fc00::1",
                "fd00:ec2::254",
                "fdff::1",
                "fec0::1",
                "64:ff9b::a00:1",
            ],
        ),
        (Some(Class::Shared), &["100.64.0.0", "100.100.100.200", "100.127.255.255"]),
        (
            Some(Class::LinkLocal),
            &[
                "168.63.129.16",
                "64:ff9b::a83f:8110",
                "169.254.0.0",
                "169.254.169.254",
                "fe80::1",
                "febf::1",
                "64:ff9b::a9fe:a9fe",
            ],
        ),
        (Some(Class::Multicast), &["224.0.0.1", "239.255.255.255", "ff02::1"]),
        (
            Some(Class::Reserved),
            &[
                "192.0.0.1",
                "192.0.2.1",
                "192.88.99.1",
                "198.18.0.0",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "240.0.0.0",
                "255.255.255.255",
                "2001:db8::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "3fff::1",
                "100::1",
                "4000::1",
                "5f00::1",
            ],
        ),
        (
            Some(Class::Embedded),
            &[
                "::ffff:127.0.0.1",
                "::ffff:1.1.1.1",
                "::127.0.0.1",
                "::ffff:0:1.1.1.1",
                "64:ff9b:1::1",
                "64:ff9b:1:2:3::1",
                "2002:7f00:1::",
                "2002:101:101::",
                "2001:0:1::1",
            ],
        ),
    ];

    #[test]
    fn every_class_of_address_is_known() {
        for (class, addresses) in TABLE {
            for address in *addresses {
                assert_eq!(not_public(address.parse().unwrap()), *class, "{address}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_not_better_in_any_ipv6_form(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let judged = not_public(address.into());
            prop_assert_eq!(not_public(IpAddr::V6(address.to_ipv6_mapped())), Some(Class::Embedded));
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b);
            prop_assert_eq!(not_public(nat64.into()), judged);
            let to4 = Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1);
            prop_assert_eq!(not_public(to4.into()), Some(Class::Embedded));
        }

        #[test]
        fn what_the_standard_library_knows_is_known(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let known = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!known || not_public(address.into()).is_some());
        }

        #[test]
        fn only_what_is_given_out_is_public(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let global = bits >> 125 == 1 || bits >> 32 == 0x64_ff9b << 64;
            prop_assert!(global || not_public(address.into()).is_some());
        }
    }
}
