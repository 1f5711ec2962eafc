//! Reading the log without gaps: [`rounds`] store a reader's positions and fence readers off each other, each is a [`snapshot`];
//! [`entries`] reads what lies between two of them, [`pages`] cuts that into bounded pages, [`lease`] picks a leader, [`readers`] are those
//! that there are, [`reader_switch`] hands a position from one to another.

pub mod entries;
pub mod lease;
pub mod pages;
pub mod reader_switch;
pub mod readers;
pub mod rounds;
pub mod snapshot;
