//! `vmaild`: the program. Everything is in the library.

fn main() -> std::process::ExitCode {
    vmaild::run(std::env::args_os())
}
