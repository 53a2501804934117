//! From root to the user that owns the mailboxes.
//!
//! Called while there is one thread: Linux changes the identity of a thread, and threads that are
//! made later inherit it. A server that root did not start keeps its own identity.

use rustix::fs::{Gid, Uid, chown};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::config::Params;
use crate::log;
use crate::tables::Maps;

/// Makes queue_directory and virtual_mailbox_base, gives them to the static user and group of
/// virtual_uid_maps and virtual_gid_maps, and becomes that user.
pub(crate) fn give_up(params: &Params) -> Result<(), String> {
    raise_file_limit(params);
    let mut folders = vec![&params.queue_directory, &params.virtual_mailbox_base];
    folders.retain(|folder| !folder.as_os_str().is_empty());
    for folder in &folders {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    if !geteuid().is_root() {
        return Ok(());
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|&id| id > 0);
    let id = |maps: &Maps| maps.fixed().and_then(number);
    let (Some(uid), Some(gid)) = (id(&params.virtual_uid_maps), id(&params.virtual_gid_maps))
    else {
        return Err(
            "started by root: expected static:NUMBER above 0 in virtual_uid_maps and virtual_gid_maps, \
             whose user vmaild becomes"
                .to_owned(),
        );
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    for folder in folders {
        chown(folder, Some(uid), Some(gid))
            .map_err(|error| format!("chown {}: {error}", folder.display()))?;
    }
    let become_user = || {
        set_thread_groups(&[])?;
        set_thread_gid(gid)?;
        set_thread_uid(uid)
    };
    become_user()
        .map_err(|error: rustix::io::Errno| format!("cannot become user {}: {error}", uid.as_raw()))
}

/// Files of one delivery: the message, the mailbox's folders, or a connection.
const FILES_PER_DELIVERY: usize = 4;
/// Ports, databases, the log.
const FILES_BESIDE: usize = 64;

/// Each session needs a file descriptor, and each delivery some.
fn raise_file_limit(params: &Params) {
    let limit = getrlimit(Resource::Nofile);
    // Without more, accept waits for descriptors; nothing is lost.
    let current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    let (sessions, deliveries) = (params.vmaild_session_limit, params.default_process_limit);
    // To Maildirs and to next hops each.
    let needed = deliveries.saturating_mul(2 * FILES_PER_DELIVERY);
    let needed = needed.saturating_add(sessions).saturating_add(FILES_BESIDE) as u64;
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < needed) {
        log!(
            "master",
            "warning: {maximum} open files are allowed (RLIMIT_NOFILE, hard), expected {needed} or more for \
                 vmaild_session_limit = {sessions} and default_process_limit = {deliveries}: connections may have to wait"
        );
    }
}
