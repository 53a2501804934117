//! A shell on another machine, or in a container: started once, for a login may take a second.
//!
//! It gets scripts on its standard input, and says at the end of each how that went. When we are
//! gone its input ends, and so does it.

use std::sync::{Arc, Mutex};

use base64ct::{Base64, Encoding as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::environment::sink::lock;

/// Begins the line that ends an answer. No line of base64 does.
const END: &str = "=vmailspec ";

/// A running shell.
#[derive(Debug)]
pub(super) struct Shell {
    /// Killed when it is dropped.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said on standard error since the last script.
    said: Arc<Mutex<Vec<String>>>,
}

impl Shell {
    /// Starts it.
    pub(super) fn start(command: &[String]) -> Result<Self, String> {
        let mut child = super::piped(command, &["sh"])?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("no pipes".to_owned());
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&said);
        // It ends with the shell.
        tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                lock(&told).push(line);
            }
        });
        Ok(Self {
            _child: child,
            input,
            output: BufReader::new(output),
            said,
        })
    }

    /// Exit status, output that was base64, and what was said on standard error.
    pub(super) async fn run(&mut self, script: &str) -> Result<(i32, Vec<u8>, String), String> {
        lock(&self.said).clear();
        let text = format!("(\n{script}\n) </dev/null\necho \"{END}$?\"\n");
        let written = self.input.write_all(text.as_bytes()).await;
        // A shell that could not start says why elsewhere.
        let mut octets = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).await;
            let read = read.map_err(|error| error.to_string())?;
            if read == 0 || written.is_err() {
                return Err(format!(
                    "it ended; it said: {} (does it pass its standard input on? `docker exec` does with -i)",
                    self.words()
                ));
            }
            let line = line.trim_end();
            if let Some(status) = line.strip_prefix(END) {
                let status = status.parse().unwrap_or(-1);
                return Ok((status, octets, self.words()));
            }
            let part = Base64::decode_vec(line)
                .map_err(|_| format!("`{line}` came, which is no line of base64(1)"))?;
            octets.extend(part);
        }
    }

    fn words(&self) -> String {
        lock(&self.said).join(" ")
    }
}
