//! The exit codes of `vmailspec`: what a script may rely on.

/// Why the process ended. The numbers never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every required clause was seen and held (known failures apart).
    Held = 0,
    /// A required clause is broken: a MUST, a SHOULD with `--strict`, or a ROBUST one with harm.
    Broken = 1,
    /// The command line, a scenario file or the list of known failures cannot be understood.
    Usage = 2,
    /// The environment could not be made, nothing ran, or a required clause could not be seen.
    /// An answer that is missing is never taken for a good one.
    Environment = 3,
    /// The list of known failures is stale: an entry holds now, or matches nothing.
    Stale = 4,
    /// A defect of vmailspec itself; please report it.
    Defect = 70,
    /// Ctrl-C (128 + SIGINT, as shells expect).
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
