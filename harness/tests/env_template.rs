//! The target's configuration: every placeholder is filled in, every difference is where it belongs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rstest::rstest;
use vmailspec::environment::certs::Authority;
use vmailspec::environment::names::HOSTNAME;
use vmailspec::environment::template::{FILES, Settings, Tables, render, write};
use vmailspec::fixtures;

fn mysql() -> Tables {
    Tables::Mysql {
        host: "127.0.0.1:23306".to_owned(),
        user: "mailuser".to_owned(),
        password: "secret".to_owned(),
        database: "mail".to_owned(),
    }
}

fn sqlite() -> Tables {
    Tables::Sqlite(PathBuf::from("/run/mail.sqlite"))
}

fn settings(tables: Tables) -> Settings {
    Settings {
        config: "/run/config".into(),
        queue: "/run/queue".into(),
        mailboxes: "/run/vmail".into(),
        smtp: "127.0.0.1:2525".parse().unwrap(),
        smtps: "127.0.0.1:4465".parse().unwrap(),
        next_hop_port: 2526,
        name_server: "127.9.0.53:53".parse().unwrap(),
        owner: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        tables,
        main_cf: vec!["message_size_limit = 5000".to_owned()],
        master_cf: Vec::new(),
    }
}

fn rendered(name: &str, settings: &Settings) -> String {
    render(
        name,
        fixtures::file(&format!("postfix/{name}")).unwrap(),
        settings,
    )
    .unwrap()
}

#[rstest]
#[case::mysql(mysql())]
#[case::sqlite(sqlite())]
fn no_placeholder_is_left_in_any_file(#[case] tables: Tables) {
    let settings = settings(tables);
    for name in FILES {
        let text = rendered(name, &settings);
        assert!(!text.contains(['{', '}']), "{name}:\n{text}");
    }
}

#[test]
fn the_templates_are_exactly_the_files_of_the_folder() {
    let mut known: Vec<String> = FILES.iter().map(|name| format!("postfix/{name}")).collect();
    known.sort();
    let there: Vec<&str> = fixtures::folder("postfix").map(|(name, _)| name).collect();
    assert_eq!(there, known);
}

#[test]
fn table_files_name_the_database() {
    let settings = settings(mysql());
    insta::assert_snapshot!(rendered("mysql-virtual_domains.cf", &settings), @r"
    hosts = 127.0.0.1:23306
    user = mailuser
    password = secret
    dbname = mail
    table = domains
    select_field = 'virtual'
    where_field = domain
    ");
}

#[test]
fn the_embedded_variant_names_a_file_instead() {
    let settings = settings(sqlite());
    insta::assert_snapshot!(rendered("mysql-virtual_mailboxes.cf", &settings), @r"
    dbpath = /run/mail.sqlite
    table = users
    select_field = CONCAT(SUBSTRING_INDEX(email,'@',-1),'/',SUBSTRING_INDEX(email,'@',1),'/')
    where_field = email
    ");
    insta::assert_snapshot!(rendered("pam.d/smtp", &settings), @r"
    auth required pam_sqlite3.so database=/run/mail.sqlite table=users usercolumn=email passwdcolumn=password crypt=1
    account sufficient pam_sqlite3.so database=/run/mail.sqlite table=users usercolumn=email passwdcolumn=password crypt=1
    ");
    let main_cf = rendered("main.cf", &settings);
    assert!(
        main_cf.contains("transport_maps = proxy:sqlite:/run/config/mysql-virtual_transports.cf")
    );
    assert!(!main_cf.contains("mysql:"), "{main_cf}");
}

#[test]
fn differences_of_a_case_come_last_in_main_cf() {
    let text = rendered("main.cf", &settings(mysql()));
    assert_eq!(text.lines().last(), Some("message_size_limit = 5000"));
}

#[rstest]
#[case("smtp", "127.0.0.1:2525")]
#[case("465", "127.0.0.1:4465")]
#[case("qmgr", "qmgr")]
fn a_difference_of_master_cf_is_an_option_of_its_service(
    #[case] service: &str,
    #[case] column: &str,
) {
    let mut settings = settings(mysql());
    settings.master_cf = vec![
        (service.to_owned(), "a".to_owned(), "b".to_owned()),
        (
            service.to_owned(),
            "smtpd_banner".to_owned(),
            "two words".to_owned(),
        ),
    ];
    let text = rendered("master.cf", &settings);
    let from = text
        .lines()
        .position(|line| line.starts_with(column))
        .unwrap();
    let options: Vec<&str> = text
        .lines()
        .skip(from + 1)
        .take_while(|line| line.starts_with(' '))
        .collect();
    assert_eq!(
        options[options.len() - 2..],
        ["  -o a=b", "  -o { smtpd_banner = two words }"]
    );
}

#[test]
fn a_service_or_placeholder_that_is_not_there_is_said_with_what_there_is() {
    let mut settings = settings(sqlite());
    settings.master_cf = vec![("smtpx".to_owned(), "a".to_owned(), "b".to_owned())];
    let master = fixtures::file("postfix/master.cf").unwrap();
    insta::assert_snapshot!(
        render("master.cf", master, &settings).unwrap_err(),
        @"master.cf smtpx: no such service; the two listeners are smtp and smtps"
    );
    insta::assert_snapshot!(
        render("main.cf", "# a comment\nmyhostname = {hostname}\n", &settings).unwrap_err(),
        @"fixtures/postfix/main.cf line 2: {hostname} is no placeholder; there are config_directory, queue_directory, virtual_mailbox_base, uid, gid, smtp_listen, smtps_listen, mynetworks, myhostname, smtp_tcp_port, smtp_address, smtp_port, smtps_port, name_server_address, name_server_port"
    );
}

#[test]
fn files_with_passwords_and_keys_are_not_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(mysql());
    settings.config = folder.path().join("config");
    write(
        &settings,
        &Authority::new().unwrap().sign(HOSTNAME).unwrap(),
        None,
    )
    .unwrap();
    for name in FILES.into_iter().chain(["smtpd.key", "smtpd.cert"]) {
        let mode = settings
            .config
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    let chain = std::fs::read_to_string(settings.config.join("smtpd.cert")).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn a_folder_of_ones_own_is_filled_in_and_keeps_its_braces_and_comments() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("exim");
    std::fs::create_dir_all(template.join("conf.d")).unwrap();
    let text = "# {mysql_host} is filled in\n\
        hide mysql_servers = {mysql_address}::{mysql_port}/{mysql_database}/{mysql_username}/{mysql_password}\n\
        daemon_smtp_ports = {smtp_port}\n\
        data = ${lookup mysql{SELECT 1}{$value}{yes}}\n";
    std::fs::write(template.join("conf.d/exim.conf"), text).unwrap();
    std::fs::write(template.join("entry"), "#!/bin/sh\n").unwrap();
    let script = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(template.join("entry"), script).unwrap();
    let identity = Authority::new().unwrap().sign(HOSTNAME).unwrap();
    let mut settings = settings(mysql());
    settings.config = folder.path().join("config");
    write(&settings, &identity, Some(&template)).unwrap();
    let written = |name: &str| std::fs::read_to_string(settings.config.join(name)).unwrap();
    insta::assert_snapshot!(written("conf.d/exim.conf"), @r"
    # {mysql_host} is filled in
    hide mysql_servers = 127.0.0.1::23306/mail/mailuser/secret
    daemon_smtp_ports = 2525
    data = ${lookup mysql{SELECT 1}{$value}{yes}}
    ");
    assert!(written("smtpd.key").contains("PRIVATE KEY"));
    let mode = settings
        .config
        .join("entry")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o750);

    std::fs::write(template.join("entry"), "exim {mysql_hots}\n").unwrap();
    let why = write(&settings, &identity, Some(&template)).unwrap_err();
    assert!(
        why.contains("entry line 1: {mysql_hots} is no placeholder; there are config_"),
        "{why}"
    );
}
