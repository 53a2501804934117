//! Flushes to disk (fsync(2)). All of them go through here, so that a test can see what was flushed,
//! and in which order: no kill of a process shows that a flush is missing.

use std::fs::File;
use std::io;

/// Returns when what is in a file, or which names are in a folder, survives a power cut.
pub(crate) fn flush(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    tests::note(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, PoisonError};

    use tokio::sync::watch;
    use vmaild_protocol::{Envelope, Recipient};

    use crate::config::Config;
    use crate::queue::{Origin, Queue, Services};

    /// What was flushed: a file by its name and content, a folder by the names in it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Flushed {
        path: PathBuf,
        content: String,
        names: BTreeSet<String>,
    }

    /// By all tests of this process; each looks for its own folder.
    static ALL: Mutex<Vec<Flushed>> = Mutex::new(Vec::new());

    pub(super) fn note(file: &File) {
        // The name that it has now.
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let names = fs::read_dir(&path).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let flushed = Flushed {
            names: names.collect(),
            content: fs::read_to_string(&path).unwrap_or_default(),
            path,
        };
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(flushed);
    }

    /// Sends a message by `transport`; all that was flushed in `folder` when its client may hear 250.
    async fn flushed_before_250(folder: &Path, transport: &str) -> Vec<Flushed> {
        let at = folder.display();
        let main = format!(
            "queue_directory = {at}/queue\nvirtual_mailbox_base = {at}/vmail\n\
             virtual_mailbox_domains = here.example\nvirtual_alias_domains =\n\
             virtual_mailbox_maps = static:here.example/user/\ntransport_maps = {transport}\n\
             virtual_uid_maps = static:5000\nvirtual_gid_maps = static:5000\n"
        );
        fs::create_dir(folder.join("vmail")).unwrap();
        fs::write(folder.join("main.cf"), main).unwrap();
        fs::write(folder.join("master.cf"), "2525 inet n - n - - smtpd\n").unwrap();
        let config = Config::read(folder).unwrap();
        let services = Services {
            params: watch::channel(Arc::clone(&config.params)).1,
            resolver: None,
            tls: None,
            listening: Vec::new(),
        };
        let queue = Queue::open(services).await.unwrap();
        let recipient = Recipient {
            mailbox: "user@here.example".parse().unwrap(),
            ..Recipient::default()
        };
        let envelope = Envelope {
            recipients: vec![recipient],
            ..Envelope::default()
        };
        let origin = Origin {
            client: [127, 0, 0, 3].into(),
            tls: None,
        };
        let mut incoming = queue.begin(&origin, &envelope);
        let content = b"Subject: x\r\n\r\nwhole\r\n";
        incoming.write(content).await.unwrap();
        incoming.commit(&envelope).await.unwrap();
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.iter().filter(|one| one.path.starts_with(folder));
        own.cloned().collect()
    }

    /// Where in the list the message is flushed, whole, in a file of `folder`; and under which name.
    fn message(flushed: &[Flushed], folder: &str) -> (usize, String) {
        let whole = |one: &Flushed| {
            one.path.parent().unwrap().ends_with(folder) && one.content.contains("\nwhole\n")
        };
        let at = flushed.iter().position(whole).expect(folder);
        let name = flushed[at].path.file_name().unwrap();
        (at, name.to_str().unwrap().to_owned())
    }

    fn assert_flushed(flushed: &[Flushed], path: &str, name: &str) {
        let has = |one: &Flushed| one.path.ends_with(path) && one.names.contains(name);
        assert!(flushed.iter().any(has), "{name} in {path}");
    }

    #[tokio::test]
    async fn a_file_is_flushed_before_its_name_is_in_new_and_the_folder_before_250() {
        let at = tempfile::tempdir().unwrap();
        let flushed = flushed_before_250(at.path(), "").await;
        let (file, _) = message(&flushed, "user/tmp");
        let new = |one: &Flushed| one.path.ends_with("user/new") && one.names.len() == 1;
        let new = flushed.iter().position(new).expect("new, with the file");
        assert!(file < new);
        // The mailbox is new: so are the names that lead to it.
        assert_flushed(&flushed, "vmail", "here.example");
        assert_flushed(&flushed, "here.example", "user");
        assert_flushed(&flushed, "user", "new");
    }

    #[tokio::test]
    async fn a_file_of_the_queue_and_its_folder_are_flushed_before_250() {
        let at = tempfile::tempdir().unwrap();
        let flushed = flushed_before_250(at.path(), "static:smtp:[127.0.0.1]:1").await;
        let (_, name) = message(&flushed, "queue/active");
        assert_flushed(&flushed, "active", &name);
        assert_flushed(&flushed, "queue", "active");
    }
}
