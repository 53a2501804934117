//! A database as a run gets it, and what holds of each.

use std::sync::Mutex;

use vmailspec::environment::EnvironmentError;
use vmailspec::environment::database::{Choice, Database};
use vmailspec::environment::template::Tables;

pub(crate) fn group() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Starts a database in a folder that goes with the test; also what was said.
pub(crate) async fn start(
    word: &str,
    image: &str,
) -> (
    Result<Database, EnvironmentError>,
    Vec<String>,
    tempfile::TempDir,
) {
    let folder = tempfile::tempdir().unwrap();
    let said = Mutex::new(Vec::new());
    let say = |line: String| said.lock().unwrap().push(line);
    let database = match Choice::parse(word) {
        Ok(choice) => Database::start(choice, image, folder.path(), group(), &say).await,
        Err(error) => Err(error),
    };
    (database, said.into_inner().unwrap(), folder)
}

/// The four tables can be used with all rights by us, and only be read by the target.
pub(crate) async fn holds_the_tables(database: Database) {
    let (shared, own) = tokio::join!(database.shared(group()), database.own(group()));
    for store in [shared.unwrap(), own.unwrap()] {
        store.execute("INSERT INTO domains (domain) VALUES ('a.test');\nINSERT INTO users (email, password) VALUES ('x@a.test', '*')").await.unwrap();
        assert_eq!(
            store
                .count("SELECT quota FROM users WHERE quota = 102400")
                .await
                .unwrap(),
            1
        );
        let why = store
            .execute("INSERT INTO nothing VALUES (1)")
            .await
            .unwrap_err();
        assert!(why.contains("nothing"), "{why}");
        if let Tables::Mysql {
            host,
            user,
            password,
            database,
        } = store.tables(None).unwrap()
        {
            let url = format!("mysql://{user}:{password}@{host}/{database}");
            let (given, _, _folder) = start(&url, "").await;
            let given = given.unwrap();
            assert!(given.is_given());
            let target = given.shared(group()).await.unwrap();
            assert_eq!(target.count("SELECT email FROM users").await.unwrap(), 1);
            let denied = target.execute("DELETE FROM users").await.unwrap_err();
            assert!(denied.contains("denied"), "{denied}");
            given.stop().await;
        }
        store.dispose().await.unwrap();
    }
    database.stop().await;
}
