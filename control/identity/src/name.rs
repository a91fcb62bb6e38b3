use hawser_wire::NodeId;

use crate::IdentityError;

/// Longest common name in a certificate, in bytes (X.520 allows 64 characters).
const COMMON_NAME_BYTES_MAX: usize = 64;

/// Node names are typed on command lines and printed in tables: 1 to 64 bytes of letters, digits,
/// `-`, `_` and `.`, beginning with a letter or digit, and nothing that could be taken for a node
/// id.
///
/// # Errors
/// [`IdentityError::Name`] with the rule that the name breaks.
pub fn check_node_name(name: &str) -> Result<(), IdentityError> {
    check_common_name(name)?;
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(refused(name, "only letters, digits, `-`, `_` and `.` are allowed"));
    }
    if !name.starts_with(char::is_alphanumeric) {
        return Err(refused(name, "it must begin with a letter or a digit"));
    }
    if name.parse::<NodeId>().is_ok() {
        return Err(refused(name, "it could be taken for a node id"));
    }
    Ok(())
}

/// The rule for any name that stands in a certificate.
pub(crate) fn check_common_name(name: &str) -> Result<(), IdentityError> {
    if name.is_empty() {
        return Err(refused(name, "it is empty"));
    }
    if name.len() > COMMON_NAME_BYTES_MAX {
        return Err(refused(name, "it is longer than 64 bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(refused(name, "it has control characters"));
    }
    if name.trim() != name {
        return Err(refused(name, "it begins or ends with a space"));
    }
    Ok(())
}

fn refused(name: &str, why: &'static str) -> IdentityError {
    IdentityError::Name { name: name.chars().take(64).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        let found = check_node_name(name).err().map(|error| error.to_string());
        match expected {
            None => assert_eq!(found, None, "{name:?}"),
            Some(part) => {
                let found = found.unwrap_or_default();
                assert!(found.contains(part), "{name:?}: {found:?} has no {part:?}");
            }
        }
    }

    #[test]
    fn rules_hold() {
        for name in ["a", "berlin-1", "node_7.rack.example", "München", "7", &"x".repeat(64)] {
            check(name, None);
        }
        check("", Some("empty"));
        check(&"x".repeat(65), Some("longer than 64"));
        check("a\nb", Some("control"));
        check(" a", Some("space"));
        check("a b", Some("only letters"));
        check("../etc", Some("only letters"));
        check("-rf", Some("begin with"));
        check("gaytemzugu3doobzmfrggzdfmy", Some("node id"));
    }
}
