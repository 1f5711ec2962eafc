//! What the binary says without settings and servers. With this target cargo builds the binary for the tests of other packages, too.

use std::process::Command;

#[test]
fn a_command_that_is_misspelt_ends_with_status_2_and_the_one_that_may_be_meant() {
    let program = env!("CARGO_BIN_EXE_publisher");
    let output = Command::new(program).arg("statsu").env_clear().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("'status'") && output.stdout.is_empty(), "{said}");
}
