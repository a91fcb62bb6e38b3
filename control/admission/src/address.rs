use crate::AdmissionError;

/// Longest address that is looked at, in bytes: a DNS name has at most 253.
const ADDRESS_BYTES_MAX: usize = 260;

/// Checks `host:port` (IPv6 in brackets) before it goes to the resolver, into an HTTP head or into
/// a log: what passes is ASCII without spaces and control characters.
///
/// # Errors
/// [`AdmissionError::Address`] with the rule that it breaks.
pub fn check_address(address: &str) -> Result<(), AdmissionError> {
    let refuse = |why| {
        let address = address.chars().take(ADDRESS_BYTES_MAX).collect();
        Err(AdmissionError::Address { address, why })
    };
    if address.len() > ADDRESS_BYTES_MAX {
        return refuse("it is too long");
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return refuse("it has no port; write host:port");
    };
    if host.is_empty() {
        return refuse("it has no host; write host:port");
    }
    if port.parse::<u16>().is_err() || port.starts_with('+') {
        return refuse("its port is not a number up to 65535");
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if host.contains(':') && inner.is_none() {
        return refuse("write IPv6 addresses in brackets, [::1]:7480");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if !inner.unwrap_or(host).chars().all(allowed) {
        return refuse("its host has characters that no host has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Option<&str>) {
        let found = check_address(address).err().map(|error| error.to_string());
        match expected {
            None => assert_eq!(found, None, "{address:?}"),
            Some(part) => {
                let found = found.unwrap_or_default();
                assert!(found.contains(part), "{address:?}: {found:?} has no {part:?}");
            }
        }
    }

    #[test]
    fn rules_hold() {
        for address in ["127.0.0.1:7480", "node-a.example:1", "[::1]:7480", "[fe80::1%eth0]:65535"]
        {
            check(address, None);
        }
        check("", Some("no port"));
        check("host", Some("no port"));
        check(":7480", Some("no host"));
        check("host:", Some("not a number"));
        check("host:+80", Some("not a number"));
        check("host:65536", Some("not a number"));
        check("::1:7480", Some("brackets"));
        check("http://host:80", Some("brackets"));
        check("ho st:80", Some("characters"));
        check("evil\r\nX-Header: 1:80", Some("brackets"));
        check("evil\r\nhost:80", Some("characters"));
        check(&format!("{}:80", "x".repeat(300)), Some("too long"));
    }
}
