//! The reference server: as a child process by its configuration, or on the tutorial's data for a
//! person to try. The only file of the harness that knows the server's crate.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::cli::{Ended, Failed, print};
use crate::environment::{Description, Environment, Options};
use crate::exit_code::ExitCode;
use crate::plan::{self, Case};
use crate::scenario::{self, Entry};
use crate::wrong::Wrong;

/// A scenario that has the tutorial's rows and a server of its own.
const TUTORIAL: &str = "title   The tutorial's data
names   tutorial
needs   own-target
start   nothing

MUST    tut.literal-rows   tutorial:domains   the tables hold the rows of the text
rows 1 SELECT domain FROM domains WHERE domain = 'mydomain.com'
";

/// `serve --config DIR`: the child process. It ends when the server does.
#[must_use]
pub fn configured(config: &Path, resolver: Option<SocketAddr>) -> std::process::ExitCode {
    let mut arguments: Vec<OsString> = vec!["vmaild".into(), "--config".into(), config.into()];
    if let Some(resolver) = resolver {
        arguments.extend(["--resolver".into(), resolver.to_string().into()]);
    }
    vmaild::run(arguments)
}

/// The case whose world is the tutorial's.
pub(crate) fn tutorial_case() -> Result<Case, Failed> {
    let defect = || Failed::new(ExitCode::Defect, "the built-in scenario cannot be read");
    let scenario = scenario::parse("serve.case", TUTORIAL).map_err(|_| defect())?;
    plan::cases(&Arc::new(scenario))
        .into_iter()
        .next()
        .ok_or_else(defect)
}

/// `serve`: the reference server on the tutorial's data, until Ctrl-C.
pub(crate) async fn tutorial(port: Option<u16>) -> Ended {
    let unable = |why: String| Failed::new(ExitCode::Environment, why);
    let options = Options {
        target: Description::reference().map_err(|why| Failed::new(ExitCode::Defect, why))?,
        database: "embedded".into(),
        database_image: String::new(),
        keep: false,
        intrusive: true,
        run: String::new(),
        wrong: Vec::new(),
    };
    let environment = Environment::start(&options, &|_| {}).await?;
    let world = environment.world(&tutorial_case()?).await.map_err(unable)?;
    let facts = world.facts();
    let target = world.address(Entry::Plain);
    let plain = match port {
        None => target,
        Some(port) => Wrong::passing(SocketAddr::from(([127, 0, 0, 1], port)), target)
            .await
            .map_err(|error| Failed::new(ExitCode::Usage, format!("--port {port}: {error}")))?,
    };
    let root = facts.maildir_root.unwrap_or_default();
    print(&format!(
        "{} on {}\n\n\
         SMTP      {plain}\n\
         SMTPS     {} (certificate for {})\n\
         account   address@mydomain.com, password mypassword, quota 102400\n\
         forward   myforward@mydomain.com\n\
         Maildirs  {}\n\n\
         Send it something:\n  \
         printf 'Subject: hello\\r\\n\\r\\nhello\\r\\n' | curl -sS smtp://{plain}/client.example \\\n    \
         --mail-from me@example.org --mail-rcpt address@mydomain.com --upload-file -\n  \
         ls {}/mydomain.com/address/new\n\n\
         Ctrl-C ends it and removes everything.\n",
        environment.target_name(),
        environment.database_name(),
        world.address(Entry::Smtps),
        facts.hostname,
        root.display(),
        root.display(),
    ));
    let waited = tokio::signal::ctrl_c().await;
    world.dispose().await.map_err(unable)?;
    environment.stop().await;
    waited.map_err(|error| unable(error.to_string()))?;
    Ok(ExitCode::Held)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tutorials_case_can_be_read_and_has_a_server_of_its_own() {
        let case = super::tutorial_case().unwrap();
        assert!(case.own_target && case.literal_names);
    }
}
