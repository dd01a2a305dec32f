//! URLs of peers, and the list of peers that a client works with.
//!
//! A [`PeerUrl`] is parsed once and keeps the spelling that was given, because proofs are made over the spelling. A
//! [`PeerList`] keeps the order in which peers were learnt, names none twice and is bounded.

use std::{
    borrow::Borrow,
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// The longest URL in bytes; a DNS name has at most 253.
pub(crate) const MAX_URL_BYTES: usize = 255;

/// The most peers in a list; what comes after is ignored.
pub(crate) const MAX_PEERS: usize = 4096;

/// What the URL of an open peer begins with, and that of a private one.
const OPEN: &str = "http://";
const PRIVATE: &str = "https://";

/// The URL under which a peer is called and which it calls itself: `http://HOST:PORT`, or `https://HOST:PORT` of a private
/// one. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerUrl(Arc<str>);

impl PeerUrl {
    /// Makes the URL of a host (a name or an address, IPv6 with or without brackets) and a port.
    pub(crate) fn new(host: &str, port: u16, is_private: bool) -> Result<Self, InvalidPeerUrl> {
        let scheme = if is_private { PRIVATE } else { OPEN };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("{scheme}[{bare}]:{port}").parse(),
            _ => format!("{scheme}{host}:{port}").parse(),
        }
    }

    /// Whether it is that of a private peer.
    pub(crate) fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE)
    }

    /// The URL of the same host and port in a network of the other kind.
    pub(crate) fn in_other_kind(&self) -> String {
        let scheme = if self.is_private() { OPEN } else { PRIVATE };
        format!("{scheme}{}:{}", self.host(), self.port())
    }

    /// Returns the URL as it was spelled, without a trailing slash.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its host, an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        self.authority().0
    }

    /// Returns its port.
    pub(crate) fn port(&self) -> &str {
        self.authority().1
    }

    fn authority(&self) -> (&str, &str) {
        let scheme = if self.is_private() { PRIVATE } else { OPEN };
        self.0[scheme.len()..].rsplit_once(':').expect("only a URL with a port was parsed")
    }
}

impl AsRef<str> for PeerUrl {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by URL be asked for a text that is not parsed: the derived equality and hash are those of the text.
impl Borrow<str> for PeerUrl {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerUrl {
    type Err = InvalidPeerUrl;

    /// Parses `http://HOST:PORT` or `https://HOST:PORT`, with or without one trailing slash, of at most 255 bytes. The
    /// scheme may be in capitals; every server spells its own in lower case.
    fn from_str(text: &str) -> Result<Self, InvalidPeerUrl> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let after = |scheme: &'static str| {
            let (given, authority) = url.split_at_checked(scheme.len()).filter(|_| url.len() <= MAX_URL_BYTES)?;
            let (host, port) = authority.rsplit_once(':').filter(|_| given.eq_ignore_ascii_case(scheme))?;
            Some((scheme, host, port))
        };
        match after(OPEN).or_else(|| after(PRIVATE)) {
            Some((scheme, host, port)) if is_host(host) && is_port(port) => {
                Ok(Self(format!("{scheme}{host}:{port}").into()))
            }
            _ => Err(InvalidPeerUrl { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for PeerUrl {
    /// All characters that a URL may hold are safe to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

fn is_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A text that is not the URL of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPeerUrl {
    /// The text.
    pub(crate) given: String,
}

impl InvalidPeerUrl {
    /// Returns what stands where the host should be.
    pub(crate) fn host(&self) -> &str {
        self.authority().0
    }

    /// Returns the nearest URL that could be meant, with `HOST` or `PORT` where nothing usable was given.
    pub(crate) fn suggestion(&self) -> String {
        let (host, port) = self.authority();
        let is_private = self.given.get(..PRIVATE.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(PRIVATE));
        let scheme = if is_private { PRIVATE } else { OPEN };
        if host.parse::<Ipv6Addr>().is_ok() {
            return format!("{scheme}[{host}]:PORT");
        }
        let host = if is_host(host) && host.len() < MAX_URL_BYTES { host } else { "HOST" };
        let port = if is_port(port) { port } else { "PORT" };
        format!("{scheme}{host}:{port}")
    }

    /// Splits what stands where host and port should be.
    fn authority(&self) -> (&str, &str) {
        let rest = self.given.split_once("://").map_or(&*self.given, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') && authority.parse::<Ipv6Addr>().is_err() => (host, port),
            _ => (authority, ""),
        }
    }
}

/// Peers in the order in which they were learnt, none twice, at most [`MAX_PEERS`].
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerList {
    order: Vec<PeerUrl>,
    known: HashSet<PeerUrl>,
}

impl PeerList {
    /// Adds an unknown peer at the end, where there is room. Returns whether the list has the peer then.
    pub(crate) fn add(&mut self, peer: PeerUrl) -> bool {
        if self.known.contains(&peer) {
            return true;
        }
        let has_room = self.order.len() < MAX_PEERS;
        if has_room {
            self.known.insert(peer.clone());
            self.order.push(peer);
        }
        has_room
    }

    /// Adds the peers of one kind that a list from outside names. Returns how many entries were invalid, of the other kind,
    /// or had no room.
    pub(crate) fn merge<'a>(&mut self, urls: impl IntoIterator<Item = &'a str>, is_private: bool) -> usize {
        let mut ignored = 0;
        for url in urls {
            if !url.parse().is_ok_and(|peer: PeerUrl| peer.is_private() == is_private && self.add(peer)) {
                ignored += 1;
            }
        }
        ignored
    }

    /// Returns the peers, first learnt first.
    pub(crate) fn as_slice(&self) -> &[PeerUrl] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_spelled_as_given_without_the_slash() {
        for (given, spelled) in [
            ("http://127.0.0.1:33330", "http://127.0.0.1:33330"),
            ("http://localhost:1/", "http://localhost:1"),
            ("http://[::1]:65535", "http://[::1]:65535"),
            ("HTTP://A.org:1/", "http://A.org:1"),
            ("http://a-b_c.Example.org:080", "http://a-b_c.Example.org:080"),
            ("HTTPS://[::1]:1/", "https://[::1]:1"),
        ] {
            assert_eq!(given.parse::<PeerUrl>().unwrap().as_str(), spelled);
        }
    }

    #[test]
    fn an_invalid_url_suggests_what_could_be_meant() {
        for (given, suggestion) in [
            ("", "http://HOST:PORT"),
            ("localhost:4000", "http://localhost:4000"),
            ("http://localhost", "http://localhost:PORT"),
            ("https://a.org:1//", "https://a.org:1"),
            ("https://a.org", "https://a.org:PORT"),
            ("https://::1", "https://[::1]:PORT"),
            ("http://a.org:1//", "http://a.org:1"),
            ("http://a.org:1/RPC2?x", "http://a.org:1"),
            ("http://me:pw@a.org:1", "http://a.org:1"),
            ("http://a.org:0", "http://a.org:PORT"),
            ("http://a.org:65536", "http://a.org:PORT"),
            ("http://a.org:+1", "http://a.org:PORT"),
            ("file:///etc/passwd", "http://HOST:PORT"),
            ("http://::1", "http://[::1]:PORT"),
            ("http://[::1]", "http://[::1]:PORT"),
            ("http://[fe80::1%eth0]:1", "http://HOST:1"),
            ("http://b\u{e4}r:1", "http://HOST:1"),
            ("http://a b:1", "http://HOST:1"),
        ] {
            assert_eq!(given.parse::<PeerUrl>().unwrap_err().suggestion(), suggestion, "{given:?}");
        }
    }

    #[test]
    fn own_urls_bracket_ipv6() {
        assert_eq!(PeerUrl::new("::1", 1, false).unwrap().as_str(), "http://[::1]:1");
        assert_eq!(PeerUrl::new("[::1]", 1, false).unwrap().as_str(), "http://[::1]:1");
        assert_eq!(PeerUrl::new("::1", 1, true).unwrap().as_str(), "https://[::1]:1");
        assert_eq!(PeerUrl::new("localhost", 1, false).unwrap().as_str(), "http://localhost:1");
        assert!(PeerUrl::new("a b", 1, false).is_err());
    }

    #[test]
    fn a_set_of_urls_can_be_asked_for_a_text() {
        let set = HashSet::from(["http://a:1", "http://b:1/"].map(|text| text.parse::<PeerUrl>().unwrap()));
        assert!(set.contains("http://a:1") && set.contains("http://b:1"));
        assert!(!set.contains("http://b:1/") && !set.contains("nonsense"));
    }

    #[test]
    fn a_list_keeps_order_names_none_twice_and_is_bounded() {
        let mut list = PeerList::default();
        let ignored = list.merge(["http://b:1", "http://a:1", "nonsense", "http://b:1/", "https://c:1"], false);
        assert_eq!(ignored, 2);
        assert_eq!(format!("{:?}", list.as_slice()), "[http://b:1, http://a:1]");
        let many: Vec<String> = (1..=5000).map(|port| format!("http://c:{port}")).collect();
        assert_eq!(list.merge(many.iter().map(String::as_str), false), 5000 - (MAX_PEERS - 2));
        assert_eq!(list.as_slice().len(), MAX_PEERS);
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_has_a_usable_suggestion(text in prop_oneof![
            "(http://|HtTP://|https://|hTtPS://)?[a-z0-9.:@/\\[\\]%é -]{0,40}",
            "http://[a-zA-Z0-9._-]{1,70}:[0-9]{1,6}/?",
            "http://\\[[0-9a-f:.%]{0,45}\\](:[0-9]{1,5})?",
            any::<String>(),
            any::<String>().prop_map(|text| format!("http://{text}:1")),
        ]) {
            match text.parse::<PeerUrl>() {
                Ok(url) => {
                    let spelled = text.strip_suffix('/').unwrap_or(&text);
                    let scheme = if url.is_private() { PRIVATE } else { OPEN };
                    prop_assert_eq!(url.as_str(), format!("{scheme}{}", &spelled[scheme.len()..]));
                    prop_assert_eq!(url.as_str(), format!("{scheme}{}:{}", url.host(), url.port()));
                    prop_assert_eq!(url.in_other_kind().parse::<PeerUrl>().unwrap().is_private(), !url.is_private());
                }
                Err(invalid) => {
                    let filled = invalid.suggestion().replace("HOST", "h").replace("PORT", "1");
                    prop_assert!(filled.parse::<PeerUrl>().is_ok(), "{}", filled);
                }
            }
        }
    }
}
