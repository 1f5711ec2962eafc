//! `bench`: the pipeline beside its limits and beside what a user would pick instead, in one run on one machine.

mod results;

fn main() {}
