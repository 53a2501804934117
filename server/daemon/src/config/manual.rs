//! The manual: one page of all that a configuration may say, made from the rows that the program
//! itself reads. `vmaild --help-parameters` prints it, and it stands beside the crate as MANUAL.md.

use super::params::{HONOURED, IRRELEVANT, NOT_HONOURED, others};
use crate::policy::{resolve::TRANSPORTS, restrictions};
use crate::tables::source::{MYSQL_KEYS, QUERY_KEYS, SQLITE_KEYS, TYPES};

const BEGINNING: &str = "\
# Manual of vmaild

What may stand in `main.cf` and in the table files, under Postfix's names and with Postfix's meaning. Where
Postfix does otherwise, that is said behind *Postfix:*.
`server/daemon/src/config/params.rs` and the rows beside it are the source of this page: `vmaild --help-parameters`.

## Parameters

Each with its type and, where it has one, its default. A time has a unit (`s`, `m`, `h`, `d`, `w`), or that of its default. Tables
are a list of those below. `$name`, `${name?then}` and `${name:else}` are replaced (postconf(5)).
";

/// The whole page, Markdown.
pub fn text() -> String {
    let mut page = vec![BEGINNING.to_owned()];
    page.extend(HONOURED.iter().map(|row| {
        let mut kind = row.kind.to_owned();
        if row.least > 0 {
            kind = format!("{kind}, {} or more", row.least);
        }
        if !row.default.is_empty() {
            kind = format!("{kind}; `{}`", row.default);
        }
        let mut what = row.what.to_owned();
        if !row.differs.is_empty() {
            what = format!("{what} *Postfix:* {}.", row.differs);
        }
        format!("- `{}` ({kind}): {what}", row.name)
    }));
    for (list, title) in [
        (NOT_HONOURED, "Not honoured: a warning where one is set"),
        (IRRELEVANT, "Passed over: they change nothing here"),
    ] {
        page.push(format!("\n## {title}\n"));
        let rows = others(list);
        page.extend(rows.map(|(names, why)| format!("- `{}`: {why}.", names.replace(' ', "`, `"))));
    }
    page.push(
        "\nAny other name is warned about as unknown, unless another value refers to it."
            .to_owned(),
    );
    let restrictions = restrictions::NAMES.map(|(name, _, what)| (name, what));
    for (title, rows) in [
        (
            "Restrictions\n\nA list is asked from its beginning until one decides. *Postfix:* has many more; here they are mistakes.",
            &restrictions[..],
        ),
        (
            "Transports\n\nWhat a row of transport_maps may name, `transport:nexthop`; without transport, the next hop of mail that leaves. *Postfix:* any service of master.cf; here another name puts the mail off, with a warning.",
            &TRANSPORTS,
        ),
        (
            "Table types\n\n*Postfix:* has many more; here they are mistakes.",
            &TYPES,
        ),
        (
            "Keys of mysql: and sqlite: files\n\n*Postfix:* has domain and a free result_format too; here they are mistakes.",
            &QUERY_KEYS,
        ),
        ("Keys of mysql: files", &MYSQL_KEYS),
        ("Keys of sqlite: files", &SQLITE_KEYS),
    ] {
        page.push(format!("\n## {title}\n"));
        page.extend(
            rows.iter()
                .map(|(name, what)| format!("- `{name}`: {what}")),
        );
    }
    page.push(String::new());
    page.join("\n")
}
