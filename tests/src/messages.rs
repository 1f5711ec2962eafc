//! How references are sent, where that is what a test is about.

use std::fs;

use crate::Pipeline;

impl Pipeline {
    /// With a message for each reference, where a test counts messages.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sending_one_by_one(self) -> anyhow::Result<Self> {
        let settings = fs::read_to_string(&self.config)?;
        fs::write(&self.config, settings.replace("[publisher]\n", "[publisher]\npack = \"never\"\n"))?;
        Ok(self)
    }
}
