//! Every page is read from an index.
