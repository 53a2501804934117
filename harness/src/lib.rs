//! vmailspec
