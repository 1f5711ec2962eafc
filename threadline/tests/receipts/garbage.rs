//! Whatever a file holds, it is verified to an end.

use proptest::prelude::*;
use threadline::receipts::{FAULTS_MAX, Trust};

use super::offline;

/// A bundle that holds: one empty receipt, not signed.
const WHOLE: &str = include_str!("empty_bundle.ndjson");

#[test]
fn a_bundle_of_before_is_still_verified() -> anyhow::Result<()> {
    let found = offline(WHOLE.as_bytes(), &Trust::nothing())?;
    assert!(found.holds(), "{found:?}");
    assert_eq!(found.receipts, 1);
    Ok(())
}

#[test]
fn files_that_are_no_bundles_are_faults() -> anyhow::Result<()> {
    let deep = format!("{{\"bundle\":{}1{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let many = WHOLE.lines().next().unwrap_or_default().to_owned() + "\n" + &"{}\n".repeat(100_000);
    for text in [
        "",
        "\n",
        "\0",
        "{}\n",
        "null\n",
        "[]\n",
        "{\"end\":{\"receipts\":0,\"rows\":0,\"sha256\":\"\"}}\n",
        "\u{feff}",
        &deep,
        &many,
    ] {
        let found = offline(text.as_bytes(), &Trust::nothing())?;
        assert!(!found.holds(), "{text:.40}");
        assert!(found.faults.listed.len() <= FAULTS_MAX);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(!offline(&bytes, &Trust::nothing()).unwrap().holds());
    }

    /// A byte more, less, or another one.
    #[test]
    fn any_change_of_a_byte_is_found(at in 0..WHOLE.len(), byte in any::<u8>(), how in 0..3) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        match how {
            0 => bytes.insert(at, byte),
            1 => drop(bytes.remove(at)),
            _ => bytes[at] = byte,
        }
        prop_assume!(bytes != WHOLE.as_bytes());
        // Spaces between members of the last line are covered by nothing, and say nothing.
        let is_space = how == 0 && b" \t\r\n".contains(&byte) && at > WHOLE.trim_end().rfind('\n').unwrap_or_default();
        prop_assume!(!is_space);
        prop_assert!(!offline(&bytes, &Trust::nothing()).unwrap().holds());
    }
}
