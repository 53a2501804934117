//! `vmailspec`: the command. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    vmailspec::cli::main(std::env::args_os())
}
