//! By which addresses a server can be called, and which this machine has.
//!
//! Invariant: names are taken as they are and never looked up, so nothing here waits.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};

/// Addresses kept for examples, which lie where the internet lies. Nothing is sent there.
const FAR_AWAY: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// Says why nobody can call a server by this host, a name or an address with or without brackets. None if one can.
pub(crate) fn objection(host: &str) -> Option<String> {
    let (bare, zone) = split_zone(without_brackets(host));
    let address: IpAddr = bare.parse().ok()?;
    let canonical = address.to_canonical();
    match canonical {
        _ if canonical != address => Some(format!("write the address as {canonical}")),
        IpAddr::V6(address) if address.is_unicast_link_local() || zone.is_some() => Some(
            "a link-local address needs a zone id, which differs from machine to machine; take another address"
                .to_owned(),
        ),
        _ if canonical.is_multicast() => Some("that is the address of a group, not of a machine".to_owned()),
        _ => None,
    }
}

/// Whether a host stands for all addresses of a machine, in any of its spellings.
pub(crate) fn is_unspecified(host: &str) -> bool {
    let bare = without_brackets(host);
    let is_zeros = !bare.is_empty() && bare.bytes().all(|byte| b"0.".contains(&byte));
    is_zeros || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_unspecified())
}

/// What to take as a host: an address of this machine, with an example if there is one.
pub(crate) fn advice() -> String {
    let own: Vec<String> = of_this_machine().iter().map(IpAddr::to_string).collect();
    let example = if own.is_empty() { String::new() } else { format!(", such as {}", own.join(" or ")) };
    format!("give an address of this machine{example}")
}

/// The addresses by which this machine calls others, at most one of each kind; none where it is on no network.
fn of_this_machine() -> Vec<IpAddr> {
    let outgoing = |(any, far): (&str, &str)| {
        let socket = UdpSocket::bind(any)?;
        socket.connect(far)?;
        socket.local_addr()
    };
    FAR_AWAY.into_iter().filter_map(|pair| outgoing(pair).ok()).map(|address| address.ip()).collect()
}

/// Whether a host is an address, and no name.
pub(crate) fn is_address(host: &str) -> bool {
    without_brackets(host).parse::<IpAddr>().is_ok()
}

/// Whether a host means the machine that calls it.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address = without_brackets(&host).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// An address and its zone id.
fn split_zone(address: &str) -> (&str, Option<&str>) {
    match address.split_once('%') {
        Some((address, zone)) if address.parse::<Ipv6Addr>().is_ok() => (address, Some(zone)),
        _ => (address, None),
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_cannot_be_right_are_objected_to() {
        for (host, part) in [
            ("::ffff:127.0.0.1", "as 127.0.0.1"),
            ("[::ffff:192.0.2.7]", "as 192.0.2.7"),
            ("fe80::1", "link-local"),
            ("[fe80::1%eth0]", "zone id"),
            ("fd00::1%1", "zone id"),
            ("224.0.0.1", "a group"),
            ("ff02::1", "a group"),
        ] {
            assert!(objection(host).is_some_and(|text| text.contains(part)), "{host}: {:?}", objection(host));
        }
        for host in ["127.0.0.1", "localhost", "[::1]", "fd00::1", "192.0.2.7", "a.org", "100", "0x.org", "a%b", ""] {
            assert_eq!(objection(host), None, "{host}");
        }
    }

    #[test]
    fn all_addresses_of_a_machine_have_many_spellings() {
        assert!(["0.0.0.0", "0", "0.0", "::", "[::]", "0::0", "::ffff:0.0.0.0"].into_iter().all(is_unspecified));
        assert!(!["100", "0.0.0.1", "0.org", "::1", "", "a"].into_iter().any(is_unspecified));
    }

    #[test]
    fn own_addresses_are_some_that_can_be_called() {
        for address in of_this_machine() {
            assert!(!address.is_unspecified() && !address.is_loopback(), "{address}");
        }
    }

    #[test]
    fn loopback_has_a_name_and_addresses_of_both_kinds() {
        assert!(["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"].into_iter().all(is_loopback));
        assert!(!["a.localhost.org", "192.0.2.7", "[fd00::1]", ""].into_iter().any(is_loopback));
    }
}
