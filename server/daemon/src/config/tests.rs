//! Configurations read as a whole.

use std::collections::HashMap;
use std::fs;

use rstest::rstest;

use super::main_cf::{expand, words};
use super::*;

#[rstest]
#[case("a = b", "b")]
#[case("a=b\n", "b")]
#[case("a = old\na =\n  b", "b")]
#[case("a = b # no comment", "b # no comment")]
#[case("# c = d\n   # e\n\na = b,\n# in between\n\n\tc\n", "b,\tc")]
#[case("a =", "")]
fn a_setting_goes_on_over_indented_lines_and_the_later_wins(
    #[case] text: &str,
    #[case] value: &str,
) {
    let mut mistakes = Vec::new();
    let settings = Settings::parse(Path::new("main.cf"), text, '=', &mut mistakes);
    assert_eq!(mistakes, []);
    assert_eq!(settings.get("a").unwrap().text, value);
}

#[rstest]
#[case("$a $b", "1 2")]
#[case("${a}x$(b)y", "1x2y")]
#[case("$loose", "")]
#[case("$via", "[1]")]
#[case("$$5", "$5")]
#[case("${a?yes}${empty?yes}", "yes")]
#[case("${a:no}${empty:no}", "no")]
#[case("${stress?{1}:{20}} ${a?{x$b}:{y}}", "20 x2")]
#[case("${stress ? {1} : {20}} ${a? { x }: {y}}", "20 x")]
fn names_are_expanded_as_in_postconf(#[case] text: &str, #[case] expanded: &str) {
    let values = HashMap::from([("a", "1"), ("b", "2"), ("empty", ""), ("via", "[$a]")]);
    let mut value_of = |name: &str| values.get(name).map(|value| (*value).to_owned());
    assert_eq!(expand(text, &mut value_of).unwrap(), expanded);
}

#[rstest]
#[case("${a")]
#[case("$ a")]
#[case("${{a} == {b}}")]
#[case("${a?{x} y}")]
#[case("$loop")]
fn what_cannot_be_expanded_is_a_mistake(#[case] text: &str) {
    let mut value_of = |name: &str| (name == "loop").then(|| "$loop".to_owned());
    assert!(expand(text, &mut value_of).is_err());
}

#[rstest]
#[case("a, b c", &["a", "b", "c"])]
#[case(" inline:{ {k = v}, b=c } x", &["inline:{ {k = v}, b=c }", "x"])]
#[case("", &[])]
fn a_list_is_cut_at_blanks_and_commas_outside_of_braces(
    #[case] text: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(words(text).collect::<Vec<_>>(), expected);
}

/// Files of a configuration in a folder of its own; of master.cf, one is there already.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("master.cf", "smtp inet n - y - - smtpd\n");
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("DIR", &self.at())).unwrap();
    }

    fn at(&self) -> String {
        self.0.path().display().to_string()
    }

    fn read(&self) -> Result<Config, String> {
        Config::read(self.0.path()).map_err(|mistakes| self.lines(&mistakes))
    }

    fn lines(&self, mistakes: &[Mistake]) -> String {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(&self.at(), "DIR")
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_place_and_what_was_expected() {
    let folder = Folder::new(&[
        (
            "main.cf",
            "# a comment\nthis is no setting\nsmtpd_timeout = soon\nmessage_size_limit = 10M\n\
             smtpd_use_tls = maybe\nsmtpd_soft_error_limit = 0\nmynetworks = 127.0.0.1/8\n\
             smtpd_recipient_restrictions = permit_mynetworks,\n  reject_unknown_client_hostname\n\
             smtpd_relay_restrictions =\n\
             virtual_alias_maps = hash:/etc/postfix/virtual\nvirtual_mailbox_maps = mysql:users.cf\n\
             transport_maps = mysql:missing.cf\nsmtp_tcp_port = 70000\nmyorigin = $myhostname${\n\
             smtpd_sasl_auth_enable = yes\nrelayhost = [a\nrecipient_delimiter = +-\n\
             virtual_mailbox_base =\ninet_interfaces = eth0\nsmtpd_forbid_bare_newline = perhaps\n",
        ),
        (
            "users.cf",
            "hosts = db:99999\ndbname = mail\nselect_field = x\nwhere_field = '%1'\ndomain = a\nuesr = b\n",
        ),
        (
            "master.cf",
            "smtp inet n - y - - smtpd\nsmtps inet n - - - - smtpd\n-o smtpd_tls_wrappermode=yes\nqmqp inet n - n - - qmqpd\n",
        ),
        (
            "sasl/smtpd.conf",
            "pwcheck_method: auxprop\nmech_list: plain login cram-md5\n",
        ),
        ("pam.d/smtp", "auth required pam_unix.so\n"),
    ]);
    insta::assert_snapshot!(folder.read().unwrap_err());
}

#[rstest]
#[case("smtpd_relay_restrictions =", RELAY_HOLE)]
#[case(
    "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, \
     permit_sasl_authenticated",
    RELAY_HOLE
)]
#[case(
    "smtpd_relay_restrictions = permit, reject_unauth_destination",
    RELAY_HOLE
)]
#[case::a_host_named_after_the_domain_that_is_named_after_it(
    "myhostname = mail.$mydomain",
    "main.cf:1: myhostname = \"mail.$mydomain\" refers to itself"
)]
#[case(
    "inet_interfaces = ::1\ninet_protocols = ipv4",
    "master.cf:1: service smtp: listens nowhere, expected an address in inet_interfaces that is of \
     inet_protocols"
)]
#[case::names_that_grow(&names_of_names("x"), TOO_LONG)]
#[case::names_of_nothing(&names_of_names(""), TOO_LONG)]
fn a_server_does_not_start_with_such_a_line(#[case] main: &str, #[case] mistake: &str) {
    let folder = Folder::new(&[("main.cf", main)]);
    assert_eq!(folder.read().unwrap_err(), format!("DIR/{mistake}"));
}

const RELAY_HOLE: &str = "main.cf:1: service smtp: anybody could relay; in parameter \
     smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working \
     instance of: reject_unauth_destination, defer_unauth_destination or reject";

const TOO_LONG: &str = "main.cf:21: smtpd_banner = too long when its names are replaced, expected \
     65536 octets or less";

/// Nineteen names, each of which names the next nine times.
fn names_of_names(last: &str) -> String {
    let names = |level| format!("$l{level} ").repeat(9);
    let levels = (0..19).map(|level| format!("l{level} = {}\n", names(level + 1)));
    let levels: String = levels.collect();
    format!("{levels}l19 = {last}\nsmtpd_banner = $l0\n")
}

#[test]
fn a_service_has_its_own_values_and_its_options_win() {
    let folder = Folder::new(&[
        (
            "main.cf",
            "smtpd_banner = main\nmyhostname = mail.example\ncompany = $mydomain\nmyorigin = $company\n",
        ),
        (
            "master.cf",
            "127.0.0.1:2525 inet n - y - - smtpd\n\
             smtps inet n - y - - smtpd\n -o smtpd_tls_wrappermode=yes -o { smtpd_banner = own $service_name }\n",
        ),
    ]);
    let config = folder.read().unwrap();
    let [first, second] = config.services.as_slice() else {
        panic!("two services")
    };
    let banners = [first, second].map(|service| service.params.smtpd_banner.as_str());
    assert_eq!(banners, ["main", "own smtps"]);
    assert!(second.params.smtpd_tls_wrappermode && !config.params.smtpd_tls_wrappermode);
    assert_eq!(first.addresses, ["127.0.0.1:2525".parse().unwrap()]);
    assert_eq!(second.addresses, ["[::]:465".parse().unwrap()]);
    assert_eq!(config.params.myorigin, "example");
    assert_eq!(config.warnings, []);
}

#[test]
fn each_service_has_its_own_smtpd_conf_and_blanks_before_a_line_mean_nothing() {
    let folder = Folder::new(&[
        ("main.cf", "smtpd_sasl_auth_enable = yes\n"),
        (
            "master.cf",
            "smtp inet n - y - - smtpd\nsmtps inet n - y - - smtpd -o smtpd_sasl_path=other\n",
        ),
        (
            "sasl/smtpd.conf",
            "pwcheck_method: saslauthd\n  mech_list: login plain\n",
        ),
        ("sasl/other.conf", "pwcheck_method: auxprop\n"),
        (
            "pam.d/smtp",
            "auth required pam_sqlite3.so database=DIR/mail.db table=users usercolumn=email \
             passwdcolumn=password crypt=1\n",
        ),
    ]);
    let mistake = "DIR/sasl/other.conf:1: pwcheck_method: \"auxprop\", expected saslauthd";
    assert_eq!(folder.read().unwrap_err(), mistake);
}

#[test]
fn what_is_not_honoured_is_warned_about_once() {
    let folder = Folder::new(&[
        (
            "main.cf",
            "biff = no\ncontent_filter = smtp-amavis:[127.0.0.1]:10024\nsmtp_bind_adress = 1\n\
             milter_default_action = accept\nsmtpd_milters =\nmyorigin = $nowhere$myhostname\n\
             smtpd_forbid_bare_newline = normalize\nsmtpd_forbid_unauth_pipelining = yes\n",
        ),
        (
            "master.cf",
            "smtp inet n - y - - smtpd\nsmtps inet n - y - - smtpd -o always_bcc=x -o syslog_name=postfix/smtps\n",
        ),
    ]);
    insta::assert_snapshot!(folder.lines(&folder.read().unwrap().warnings));
}

const PLACEHOLDERS: &str = "config_directory=DIR queue_directory=DIR/queue \
     virtual_mailbox_base=DIR/vmail myhostname=server.domain.com mynetworks=127.0.0.2/32 \
     uid=5000 gid=5000 smtp_tcp_port=25 smtp_listen=127.0.0.1:2525 smtps_listen=127.0.0.1:4465 \
     mysql_host=127.0.0.1:3306 mysql_username=u mysql_password=p mysql_database=mail";

#[test]
fn the_tutorials_configuration_is_read_without_a_word() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/postfix");
    let folder = Folder::new(&[]);
    let mut folders = vec![fixtures.clone()];
    while let Some(from) = folders.pop() {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut text = fs::read_to_string(&path).unwrap();
            for pair in PLACEHOLDERS.split_whitespace() {
                let (word, value) = pair.split_once('=').unwrap();
                text = text.replace(&format!("{{{word}}}"), value);
            }
            let name = path.strip_prefix(&fixtures).unwrap();
            folder.write(name.to_str().unwrap(), &text);
        }
    }
    let config = folder.read().unwrap();
    assert_eq!(folder.lines(&config.warnings), "");
    let params = &config.params;
    assert!(params.virtual_overquota_bounce && params.virtual_mailbox_extended);
    assert!(params.virtual_create_maildirsize);
    assert_eq!(params.virtual_uid_maps.fixed(), Some("5000"));
    let [plain, tls] = config.services.as_slice() else {
        panic!("two services")
    };
    assert!(plain.passwords.is_some() && tls.passwords.is_some());
    assert!(tls.params.smtpd_tls_wrappermode && plain.params.wants_tls());
    assert_eq!(tls.params.smtpd_client_restrictions.len(), 2);
}

#[test]
fn debians_main_cf_is_read_without_a_word() {
    let folder = Folder::new(&[
        (
            "main.cf",
            "myorigin = DIR/mailname\nsmtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)\nbiff = no\n\
             append_dot_mydomain = no\nreadme_directory = no\ncompatibility_level = 3.6\n\
             smtpd_tls_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem\nsmtpd_tls_key_file=/etc/ssl/private/ssl-cert-snakeoil.key\n\
             smtpd_tls_security_level=may\nsmtp_tls_CApath=/etc/ssl/certs\nsmtp_tls_security_level=may\n\
             smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache\n\
             smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination\n\
             myhostname = server.domain.com\nalias_maps = hash:/etc/aliases\nalias_database = hash:/etc/aliases\n\
             mydestination = $myhostname, localhost.localdomain, localhost\nrelayhost =\n\
             mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\nmailbox_size_limit = 0\n\
             recipient_delimiter = +\ninet_interfaces = all\ninet_protocols = all\n\
             smtpd_forbid_bare_newline = reject\nsmtpd_forbid_unauth_pipelining = no\n",
        ),
        ("mailname", "server.domain.com\n"),
    ]);
    let config = folder.read().unwrap();
    assert_eq!(folder.lines(&config.warnings), "");
    assert_eq!(config.params.myorigin, "server.domain.com");
    assert_eq!(config.params.recipient_delimiter, Some('+'));
}

#[test]
fn the_manual_in_the_repository_is_what_the_program_prints() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/MANUAL.md")).unwrap();
    let advice =
        "write it anew: cargo run -p vmaild -- --help-parameters > server/daemon/MANUAL.md";
    assert!(page == manual::text(), "{advice}");
}
