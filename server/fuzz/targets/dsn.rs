#![no_main]
use std::sync::{Arc, LazyLock};

static PARAMS: LazyLock<Arc<vmaild::config::Params>> =
    LazyLock::new(|| vmaild::fuzz::params(tempfile::tempdir().unwrap().path()));

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vmaild::fuzz::dsn(octets, &PARAMS));
