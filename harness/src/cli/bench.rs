//! `vmailspec bench`: how long things take, measured and not guessed.

mod compare;
mod load;
mod machine;

use std::time::{Duration, Instant};

use super::run::{planned, play, run_name};
use super::{Bench, Ended, Failed, print};
use crate::driver::Journal;
use crate::driver::connection::{Connection, Peer};
use crate::environment::{Description, Environment, Options, World};
use crate::exit_code::ExitCode;
use crate::known::Known;
use crate::runner::Settings;
use crate::scenario::{Entry, TargetAction};
use crate::serve;
use crate::wire::Heard;

pub(super) async fn bench(bench: Bench) -> Ended {
    if let Some(file) = &bench.against {
        return Box::pin(compare::compare(file, &bench)).await;
    }
    let Bench {
        runs, scenarios, ..
    } = bench;
    let mut starts = Vec::new();
    let environment = Environment::start(&options()?, &|_| {}).await?;
    let case = serve::tutorial_case()?;
    let unable = |why: String| Failed::new(ExitCode::Environment, why);
    let world = environment.world(&case).await.map_err(unable)?;
    for _ in 0..runs {
        starts.push(cold_start(&world).await.map_err(unable)?);
    }
    world.dispose().await.map_err(unable)?;
    environment.stop().await;
    told("reference server, cold start to its first 220", &mut starts);
    let mut suites = Vec::new();
    for _ in 0..runs {
        let cases = planned(scenarios.as_deref(), &[])?;
        let settings = Settings {
            jobs: 12,
            strict: false,
            known: Known::default(),
            wrong: None,
            run: run_name(),
            fail_fast: false,
        };
        let count = cases.len();
        let played = Box::pin(play(&options()?, cases, settings, Vec::new())).await?;
        if played.interrupted {
            return Ok(ExitCode::Interrupted);
        }
        if played.results.len() != count {
            return Err(Failed::new(
                ExitCode::Defect,
                "not every case came to an end",
            ));
        }
        suites.push(played.took);
    }
    told("the suite on the embedded database", &mut suites);
    Ok(ExitCode::Held)
}

fn options() -> Result<Options, Failed> {
    Ok(Options {
        target: Description::reference().map_err(|why| Failed::new(ExitCode::Defect, why))?,
        database: "embedded".into(),
        database_image: String::new(),
        keep: false,
        intrusive: true,
        run: String::new(),
        wrong: Vec::new(),
    })
}

/// From starting the process to the greeting.
async fn cold_start(world: &World) -> Result<Duration, String> {
    world.target(TargetAction::Kill).await?;
    let began = Instant::now();
    world.target(TargetAction::Start).await?;
    let facts = world.facts();
    let journal = Journal::new(Duration::from_secs(30));
    let source = facts.stranger;
    let peer = Peer::new(facts, source, world.address(Entry::Plain), Entry::Plain);
    let mut connection = Connection::open(peer, 0, &journal).await?;
    match connection.hear(Duration::from_secs(10)).await {
        Heard::Reply(reply) if reply.code == 220 => {}
        _ => return Err("the reference server did not greet".into()),
    }
    let took = began.elapsed();
    connection.close().await;
    Ok(took)
}

fn told(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (Some(min), Some(median)) = (times.first(), times.get(times.len() / 2)) else {
        return;
    };
    print(&format!(
        "{what}: min {:.1} ms, median {:.1} ms of {}\n",
        min.as_secs_f64() * 1000.0,
        median.as_secs_f64() * 1000.0,
        times.len()
    ));
}
