#![no_main]
use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vmaild::fuzz::table(octets, FOLDER.path()));
