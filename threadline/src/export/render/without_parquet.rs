//! A build that writes no Parquet: there is no table, and options that ask for one are refused before.

use super::super::ExportError;
use crate::query::Entry;

#[derive(Debug)]
pub(super) enum Table {}

impl Table {
    pub(super) fn new(_: &[&str]) -> Result<Self, ExportError> {
        Err(ExportError::refused("export_options", super::super::options::WITHOUT_PARQUET))
    }

    pub(super) fn add(&mut self, _: &Entry) -> Result<(), ExportError> {
        match *self {}
    }

    pub(super) fn end(&mut self) -> Result<(), ExportError> {
        match *self {}
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        match *self {}
    }
}
