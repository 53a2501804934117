//! Wrong servers: a check that has never failed is not evidence. Each file of `fixtures/wrong`
//! says which clauses it must turn red; the suite turns exactly these red, and where all have been
//! judged no clause of any scenario is left that was never red there.
//!
//! ```text
//! # What is wrong with this server.
//! # only: PATTERN …      (where it breaks almost everything: the cases that are run)
//! # red: CLAUSE …        (may be repeated)
//! # database: server      (where it takes MySQL: the image of VMAILSPEC_DATABASE_IMAGE, or one of this machine)
//! ```
//!
//! Red is a MUST that is broken. A SHOULD, a MAY or a ROBUST that is named must be declined or noted;
//! the right server, judged first, does neither. A file that changes nothing is the right server, and
//! names what it declines itself: these are known to fail as well.
//!
//! `*.cf` are lines of main.cf, `*.wire` rules of a proxy (`harness/src/wrong.rs`), `*.source` changes
//! of the server's source (`wrong_source`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wrong_source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use vmailspec::{ledger, plan, scenario};

struct Server {
    path: PathBuf,
    text: String,
    only: Vec<String>,
    red: BTreeSet<String>,
    /// The arguments that choose a database.
    database: Vec<String>,
}

impl Server {
    fn name(&self) -> String {
        self.path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }

    fn is(&self, kind: &str) -> bool {
        self.path.extension().is_some_and(|end| end == kind)
    }

    /// The right server itself, named for what it declines.
    fn is_right(&self) -> bool {
        self.text.lines().all(|line| line.starts_with('#'))
    }
}

fn servers() -> Vec<Server> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wrong");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let servers: Vec<Server> = paths.into_iter().map(read).collect();
    for server in &servers {
        assert!(
            ["cf", "wire", "source"].iter().any(|kind| server.is(kind)),
            "{}: no kind of wrong server",
            server.path.display()
        );
    }
    servers
}

fn read(path: PathBuf) -> Server {
    let text = std::fs::read_to_string(&path).unwrap();
    let words = |begin: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(begin));
        lines
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    let red = words("# red:").into_iter().collect();
    let database = match words("# database:").as_slice() {
        [] => vec!["--database".to_owned(), "embedded".to_owned()],
        [word] if word == "server" => match std::env::var("VMAILSPEC_DATABASE_IMAGE") {
            Ok(image) => ["--database", "docker", "--database-image", &image]
                .map(str::to_owned)
                .into(),
            Err(_) => vec!["--database".to_owned(), "local".to_owned()],
        },
        _ => panic!("{}: expected `# database: server`", path.display()),
    };
    Server {
        only: words("# only:"),
        red,
        database,
        path,
        text,
    }
}

/// Names and texts of those that are made of source.
fn of_source(servers: &[Server]) -> Vec<(String, String)> {
    let made = servers.iter().filter(|server| server.is("source"));
    made.map(|server| (server.name(), server.text.clone()))
        .collect()
}

#[test]
fn every_wrong_server_says_what_is_wrong_and_names_clauses_that_exist() {
    let mut ids: BTreeSet<String> = ledger::CLAUSES.iter().map(|one| one.0.to_owned()).collect();
    // What a server that ends by itself is told.
    ids.insert("ledger.crash".to_owned());
    for scenario in scenario::builtin().unwrap() {
        ids.extend(plan::clauses(&scenario).map(|clause| clause.id.clone()));
    }
    let servers = servers();
    assert!(servers.len() >= 10);
    for server in servers {
        let text = std::fs::read_to_string(&server.path).unwrap();
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("# ") && !first.starts_with("# red:"),
            "{:?}",
            server.path
        );
        assert!(
            !server.red.is_empty(),
            "{:?} turns nothing red",
            server.path
        );
        let unknown: Vec<_> = server.red.difference(&ids).collect();
        assert!(unknown.is_empty(), "{:?} names {unknown:?}", server.path);
        if server.path.extension().is_some_and(|end| end == "wire") {
            assert!(
                !vmailspec::wrong::Wrong::read(&server.path)
                    .unwrap()
                    .is_empty()
            );
        }
    }
}

#[test]
fn every_change_of_source_finds_its_piece_in_the_source_of_today() {
    wrong_source::sources(&of_source(&servers())).unwrap();
}

#[test]
fn a_change_of_source_is_a_switch_that_the_copy_alone_has() {
    let text = "# no\n\nserver/a.rs\n- one()\n+ two()\n- three();\n- four();\n- x\n+ if wrong!() { y } else { x }\n";
    let changes = wrong_source::parse(&text.replace("- x\n", "+\n- x\n")).unwrap();
    let mut files = BTreeMap::from([(
        "server/a.rs".to_owned(),
        "let a = one();\nthree();\nfour();\nx\n".to_owned(),
    )]);
    wrong_source::apply("no", &changes, &mut files).unwrap();
    let server = "vmaild_protocol";
    let switch = format!("{server}::wrong(\"no\")");
    assert_eq!(
        files["server/a.rs"],
        format!(
            "let a = (if {switch} {{ two() }} else {{ one() }});\n\
             if {switch} {{\n\n}} else {{\nthree();\nfour();\n}}\n\
             if {switch} {{ y }} else {{ x }}\n"
        )
    );
}

#[test]
fn a_change_of_source_that_does_not_fit_is_told() {
    let changes = wrong_source::parse("server/a.rs\n- one\n+ two\n").unwrap();
    for (text, found) in [("two", "0 times"), ("one one", "2 times")] {
        let mut files = BTreeMap::from([("server/a.rs".to_owned(), text.to_owned())]);
        let told = wrong_source::apply("no", &changes, &mut files).unwrap_err();
        assert!(told.starts_with("no: server/a.rs holds this"), "{told}");
        assert!(told.contains(found), "{told}");
    }
    let told = wrong_source::apply("no", &changes, &mut BTreeMap::new()).unwrap_err();
    assert_eq!(told, "no: server/a.rs is no source of the server");
    for (text, told) in [
        ("# nothing\n", "1: changes nothing"),
        ("- one\n", "1: expected the path of a file"),
        ("server/a.rs\n+ two\n", "2: expected a line `- …` first"),
    ] {
        assert!(wrong_source::parse(text).unwrap_err().starts_with(told));
    }
}

/// How many are judged at a time. They wait more than they work: for answers that never come.
const AT_A_TIME: usize = 4;

#[test]
#[ignore = "minutes: the suite for each wrong server; ci/proof runs it"]
fn every_wrong_server_turns_exactly_its_clauses_red() {
    let servers = servers();
    let program = wrong_source::build(&of_source(&servers)).unwrap();
    let wanted = std::env::var("VMAILSPEC_PROOF").unwrap_or_default();
    let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
    for name in &wanted {
        assert!(
            servers.iter().any(|server| server.name() == **name),
            "there is no wrong server {name}"
        );
    }
    let judged: Vec<&Server> = servers
        .iter()
        .filter(|server| wanted.is_empty() || wanted.contains(server.name().as_str()))
        .collect();
    let wrong = Mutex::new(judge_right(&judged));
    let reddened = Mutex::new(BTreeSet::new());
    let next = Mutex::new(judged.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((place, server)) = next.lock().unwrap().next() else {
                        return;
                    };
                    let begun = std::time::Instant::now();
                    let (told, places) = judge(server, &program);
                    reddened.lock().unwrap().extend(places);
                    let mut line = format!(
                        "{}/{} {} {}, {:.1} s",
                        place + 1,
                        judged.len(),
                        if told.is_empty() { "ok" } else { "NOT OK" },
                        server.name(),
                        begun.elapsed().as_secs_f64(),
                    );
                    for one in &told {
                        line.push_str("\n  ");
                        line.push_str(one);
                    }
                    eprintln!("{line}");
                    wrong.lock().unwrap().extend(told);
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    if wanted.is_empty() {
        let left = never_red(&reddened.into_inner().unwrap()).into_iter();
        wrong.extend(left.map(|(path, id)| format!("{path}: nothing turned {id} red here")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The path of a scenario and the id of a clause that it looks at.
type Place = (String, String);

/// The places that no wrong server reached: there the clause could look at nothing and nobody would see.
fn never_red(reddened: &BTreeSet<Place>) -> BTreeSet<Place> {
    let scenarios = scenario::builtin().unwrap();
    let places = scenarios.iter().flat_map(|scenario| {
        let ids = plan::clauses(scenario).map(|clause| clause.id.clone());
        ids.map(|id| (scenario.path.display().to_string(), id))
    });
    let all: BTreeSet<Place> = places.collect();
    &all - reddened
}

/// Runs the suite against one; returns what it turned red without saying so, and the other way
/// round; and the places where it turned anything red.
fn judge(server: &Server, program: &Path) -> (Vec<String>, BTreeSet<Place>) {
    let mut command = suite(&server.database);
    if server.is("source") {
        command.env("VMAILSPEC_SERVE_EXE", program);
        command.env("VMAILD_WRONG", server.name());
    } else {
        command.arg("--wrong").arg(&server.path);
    }
    let path = server.path.file_name().unwrap().to_string_lossy();
    let turned = match turned(command.args(&server.only)) {
        Ok(turned) => turned,
        Err(why) => return (vec![format!("{path}: {why}")], BTreeSet::new()),
    };
    let green = server.red.difference(&turned.all);
    let green = green.map(|id| format!("{path}: {id} was not red"));
    let red = turned.broken.difference(&server.red);
    let told = green.chain(red.map(|id| format!("{path}: {id} was red too")));
    (told.collect(), turned.places)
}

/// What is red, or declined, on the right server proves nothing on a wrong one.
fn judge_right(servers: &[&Server]) -> Vec<String> {
    // Whole groups: `alias.case` alone would be the name of a file.
    let groups: BTreeSet<String> = servers
        .iter()
        .flat_map(|server| &server.red)
        .filter_map(|id| id.split_once('.'))
        .filter(|(group, _)| *group != "ledger")
        .map(|(group, _)| format!("{group}.*"))
        .collect();
    let mut command = suite(&["--database".to_owned(), "embedded".to_owned()]);
    match turned(command.args(groups)) {
        Ok(turned) => {
            let wrong = servers.iter().filter(|server| !server.is_right());
            let named = wrong.flat_map(|server| {
                let red = server.red.intersection(&turned.all);
                red.map(|id| format!("{}: {id} is red on the right server", server.name()))
            });
            named.collect()
        }
        Err(why) => vec![format!("the right server: {why}")],
    }
}

fn suite(database: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmailspec"));
    command.arg("run").args(database);
    command
}

/// The clauses that a run did not find as they are to be.
struct Turned {
    broken: BTreeSet<String>,
    /// With those of lower levels that were declined or noted.
    all: BTreeSet<String>,
    /// All of them, each with its scenario.
    places: BTreeSet<Place>,
}

fn turned(command: &mut Command) -> Result<Turned, String> {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = command.arg("--json").arg(&json).output().unwrap();
    let report: Option<serde_json::Value> = std::fs::read_to_string(&json)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    let said = || {
        format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let report = report.ok_or_else(said)?;
    if report["defects"]
        .as_array()
        .is_none_or(|defects| !defects.is_empty())
    {
        return Err(said());
    }
    let (mut broken, mut all, mut places) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in report["cases"].as_array().ok_or_else(said)? {
        let path = case["path"].as_str().unwrap();
        for clause in case["clauses"].as_array().unwrap() {
            let id = clause["id"].as_str().unwrap().to_owned();
            let verdict = clause["verdict"].as_str().unwrap();
            if !["broken", "declined", "noted"].contains(&verdict) {
                continue;
            }
            if verdict == "broken" {
                broken.insert(id.clone());
            }
            places.insert((path.to_owned(), id.clone()));
            all.insert(id);
        }
    }
    Ok(Turned {
        broken,
        all,
        places,
    })
}
