//! Golden vectors as the document states them: fenced blocks whose info string is `hex LABEL`,
//! bytes in hexadecimal, a comment behind `#`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

static VECTORS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-format.md");
    parse(&std::fs::read_to_string(&path).unwrap())
});

/// The vector with this label.
pub(crate) fn vector(label: &str) -> &'static [u8] {
    VECTORS.get(label).unwrap_or_else(|| panic!("the document has no vector {label:?}"))
}

/// Every label of the document.
pub(crate) fn labels() -> impl Iterator<Item = &'static str> {
    VECTORS.keys().map(String::as_str)
}

fn parse(document: &str) -> BTreeMap<String, Vec<u8>> {
    let mut vectors = BTreeMap::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in document.lines() {
        if let Some(label) = line.strip_prefix("```hex ") {
            assert!(open.is_none(), "a vector within a vector at {label:?}");
            open = Some((label.to_owned(), Vec::new()));
        } else if line.starts_with("```") {
            if let Some((label, bytes)) = open.take() {
                let earlier = vectors.insert(label.clone(), bytes);
                assert!(earlier.is_none(), "two vectors have the label {label:?}");
            }
        } else if let Some((label, bytes)) = &mut open {
            let hex = line.split('#').next().unwrap_or_default();
            bytes.extend(hex.split_whitespace().map(|byte| {
                assert_eq!(byte.len(), 2, "{label}: {byte:?} is no byte");
                u8::from_str_radix(byte, 16).unwrap()
            }));
        }
    }
    assert!(open.is_none(), "the last vector has no end");
    vectors
}

#[test]
fn a_block_is_read_up_to_the_comment_and_other_blocks_are_not() {
    let document = "text\n```hex a\n00 ff  # one\n7f\n```\n```sh\n01\n```\n```hex b\n```\n";
    let expected = [("a".to_owned(), vec![0x00, 0xff, 0x7f]), ("b".to_owned(), vec![])];
    assert_eq!(parse(document), BTreeMap::from(expected));
}
