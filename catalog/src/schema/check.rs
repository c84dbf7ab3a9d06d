//! Compares a catalog with a live schema.

mod cascade;

use super::{Field, RowImageMode, Schema, Table};
use crate::catalog::{Catalog, Declared, Origin};
use crate::mysql_type::{Kind, MysqlType};
use crate::param::{Filter, ParamType};
use crate::query::TableName;
use crate::report::{Problem, Report, Severity};
use crate::rules::pattern::Pattern;
use crate::template::Template;

/// What of the live schema the catalog can't live with: errors, and warnings.
pub fn check(catalog: &Catalog, schema: &Schema) -> Report {
    let mut check = Check { catalog, schema, report: Report::default() };
    for (group, (_, line)) in catalog.groups.iter().zip(&catalog.lines) {
        for table in group.tables() {
            // A view that the group ignores is one whose tables have rules.
            let ignored = catalog.ignored.iter().any(|(name, id)| *id == group.id && name.is(table));
            if ignored && schema.table(table).is_some_and(|found| found.view) {
                continue;
            }
            check.table(&format!("group {}", group.name), table, *line);
        }
    }
    for declared in &catalog.rules {
        check.rule(declared);
    }
    check.row_image();
    check.cascades();
    check.report.sort();
    check.report
}

struct Check<'a> {
    catalog: &'a Catalog,
    schema: &'a Schema,
    report: Report,
}

impl Check<'_> {
    fn push(&mut self, severity: Severity, line: Option<usize>, message: String, remedy: impl Into<String>) {
        let (file, remedy) = (self.catalog.file.clone(), Some(remedy.into()));
        self.report.problems.push(Problem { file, line, severity, message, remedy });
    }

    fn error(&mut self, line: usize, message: String, remedy: impl Into<String>) {
        self.push(Severity::Error, Some(line), message, remedy);
    }

    fn warn(&mut self, line: usize, message: String, remedy: impl Into<String>) {
        self.push(Severity::Warning, Some(line), message, remedy);
    }

    /// A table that a group or a rule names must exist and have row changes.
    fn table(&mut self, who: &str, name: &TableName, line: usize) {
        match self.schema.table(name) {
            None => {
                let known =
                    self.schema.tables.iter().map(|table| format!("{}.{}", table.database, table.name));
                let known: Vec<String> = known.collect();
                let near = crate::report::did_you_mean(&name.to_string(), known.iter().map(String::as_str));
                let remedy = match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => "create it, or let the catalog's user see it".to_owned(),
                };
                self.error(line, format!("{who}: there is no table {name}"), remedy);
            }
            Some(table) if table.view => {
                let remedy = "write the view's query over its tables, so that their changes are seen; or write rules for its tables and list the view in the group's `ignore`";
                self.error(
                    line,
                    format!("{who}: {name} is a view, whose rows have no changes of their own"),
                    remedy,
                );
            }
            Some(_) => {}
        }
    }

    /// The line of a rule; for a derived one that of the query.
    fn line_of(&self, declared: &Declared) -> usize {
        match (declared.origin, declared.rule.groups.first()) {
            (Origin::Rule(line), _) => line,
            (_, Some(group)) => self.catalog.lines[usize::from(group.0)].1,
            (_, None) => 1,
        }
    }

    fn rule(&mut self, declared: &Declared) {
        let line = self.line_of(declared);
        let written = matches!(declared.origin, Origin::Rule(_));
        let who = match declared.rule.groups.first() {
            Some(group) if !written => format!("group {}", self.catalog.groups[usize::from(group.0)].name),
            _ => format!("rule on {}", declared.pattern),
        };
        let matching = |table: &&Table| declared.pattern.matches(&table.table_name());
        let tables: Vec<&Table> = self.schema.tables.iter().filter(matching).collect();
        if written {
            match &declared.pattern {
                Pattern::Table(name) => self.table(&who, name, line),
                pattern if tables.is_empty() => {
                    self.warn(
                        line,
                        format!("{who}: no table matches {pattern}"),
                        "correct the pattern, or create the tables",
                    );
                }
                _ => {}
            }
        }
        for table in tables.into_iter().filter(|table| !table.view) {
            for column in declared.rule.when_changed.iter().filter(|column| table.column(column).is_none()) {
                self.no_column(&who, table, column, line);
            }
            for param in declared.rule.template().into_iter().flat_map(Template::params) {
                match table.column(&param.name) {
                    Some(column) if param.kind == ParamType::Compared => {
                        self.compared(&who, table, column, declared, line);
                        let name = format!("{}.{}.{}", table.database, table.name, column.name);
                        self.carried(&who, &name, column, &param.kind, line);
                    }
                    Some(column) => self.part(&who, table, column, &param.kind, line),
                    None => self.no_column(&who, table, &param.name, line),
                }
            }
        }
    }

    fn no_column(&mut self, who: &str, table: &Table, column: &str, line: usize) {
        let near =
            crate::report::did_you_mean(column, table.columns.iter().map(|column| column.name.as_str()));
        let remedy = match near {
            Some(near) => format!("did you mean {near}?"),
            None => "name a column of the table".to_owned(),
        };
        self.error(line, format!("{who}: {}.{} has no column {column}", table.database, table.name), remedy);
    }

    /// A column that becomes a part of a key.
    fn part(&mut self, who: &str, table: &Table, column: &Field, kind: &ParamType, line: usize) {
        let name = format!("{}.{}.{}", table.database, table.name, column.name);
        let mysql_type = MysqlType::new(&column.mysql_type);
        let mysql_kind = mysql_type.kind();
        if !kind.accepts(mysql_kind) {
            let message = format!(
                "{who}: column {name} is {}, key parts of type {kind} are not made of it",
                column.mysql_type
            );
            let remedy = match best(mysql_kind, &column.mysql_type) {
                Some(best) => format!("give the parameter the type {best}"),
                None => {
                    "a float, JSON or spatial column can't be a part of a key; use another column".to_owned()
                }
            };
            self.error(line, message, remedy);
            return;
        }
        if mysql_kind == Kind::Unsigned && *kind == ParamType::I64 {
            let message =
                format!("{who}: column {name} is unsigned, numbers above the range of i64 have no key");
            self.warn(line, message, "give the parameter the type u64");
        }
        if column.nullable {
            let message = format!("{who}: column {name} may be NULL, and such rows have no key");
            self.warn(line, message, "make it NOT NULL, or leave such rows uncached");
        }
        self.carried(who, &name, column, kind, line);
        if let (ParamType::Str(filters), Some(collation)) = (kind, &column.collation) {
            self.collation(who, &name, filters, collation, mysql_kind, line);
        }
    }

    /// What of a column is lost on the way from the server to the sync service.
    fn carried(&mut self, who: &str, name: &str, column: &Field, kind: &ParamType, line: usize) {
        for stream in &self.catalog.streams {
            for lost in stream.loses(column, kind) {
                let message = format!("{who}: column {name} {}", lost.reason);
                let message = if message.contains(stream.name()) {
                    message
                } else {
                    format!("{message} (through {})", stream.name())
                };
                self.push(lost.severity, Some(line), message, lost.remedy);
            }
        }
    }

    /// A column that a join compares: both sides must be written alike in the tag.
    fn compared(&mut self, who: &str, table: &Table, column: &Field, declared: &Declared, line: usize) {
        let family = |column: &Field| match MysqlType::new(&column.mysql_type).kind() {
            kind if !ParamType::Compared.accepts(kind) => None,
            Kind::Char | Kind::Text => Some("text"),
            Kind::Binary | Kind::Blob => Some("bytes"),
            _ => Some("number"),
        };
        let name = format!("{}.{}.{}", table.database, table.name, column.name);
        let remedy = format!(
            "write tags = [..] with typed parameters in the group and a [[rule]] for {}.{} with the same tags",
            table.database, table.name
        );
        let Some(own) = family(column) else {
            let message = format!(
                "{who}: its JOIN compares {name}, {}: no tag is derived of such columns",
                column.mysql_type
            );
            self.error(line, message, remedy);
            return;
        };
        let template = declared.rule.tags.as_ref().map(|tags| (&tags.template, &tags.against));
        let at = template.and_then(|(template, _)| template.param(&column.name.to_lowercase()));
        let other = at.and_then(|at| template.and_then(|(_, against)| against.get(at)));
        let Some(other) = other else { return };
        let found = self.schema.table(&other.table).and_then(|table| table.column(&other.column));
        if let Some(found) = found
            && family(found) != Some(own)
        {
            let message = format!(
                "{who}: its JOIN compares {name}, {}, with {other}, {}: no tag is derived of columns of two kinds",
                column.mysql_type, found.mysql_type
            );
            self.error(line, message, remedy);
        }
    }

    /// A collation that equates what keys tell apart fills one row under keys that its changes don't remove.
    fn collation(
        &mut self,
        who: &str,
        name: &str,
        filters: &[Filter],
        collation: &str,
        kind: Kind,
        line: usize,
    ) {
        let collation = collation.to_ascii_lowercase();
        let folds = filters.iter().any(|filter| matches!(filter, Filter::Lower | Filter::Upper));
        let labels = matches!(kind, Kind::Enum | Kind::Set);
        let accents = collation.contains("_ai_") || collation.ends_with("_ci") && !collation.contains("_as_");
        if collation.ends_with("_ci") && !folds {
            let accents = if accents && !labels { ", and may not tell é from e" } else { "" };
            let message = format!(
                "{who}: column {name} has the collation {collation}, which does not tell A from a{accents}"
            );
            self.error(
                line,
                message,
                "write the parameter as str|lower, or give the column a _bin or _cs collation",
            );
            return;
        }
        // All that it equates in one warning: there is one column to look at.
        if labels {
            return;
        }
        // Collations before UCA 9.0.0 compare as if values were padded with spaces, also by bytes.
        let pads =
            !collation.contains("_0900_") && collation != "binary" && !filters.contains(&Filter::TrimEnd);
        let (equates, remedy) = match (accents, pads) {
            (true, true) => (
                "may not tell é from e, and ignores spaces at the end",
                "give the column a _0900_as_cs or _0900_bin collation if such values occur",
            ),
            (true, false) => {
                ("may not tell é from e", "give the column a _bin or _as_cs collation if such values occur")
            }
            (false, true) => (
                "ignores spaces at the end",
                "add the filter trim_end to the parameter if values may end in spaces",
            ),
            (false, false) => return,
        };
        let message = format!("{who}: column {name} has the collation {collation}, which {equates}");
        self.warn(line, message, remedy);
    }

    fn row_image(&mut self) {
        match self.schema.row_image {
            Some(RowImageMode::Minimal) => self.push(
                Severity::Error,
                None,
                "binlog_row_image is MINIMAL: row changes lack the columns that keys are made of".to_owned(),
                "set binlog_row_image = FULL on the MySQL server, and reconnect its clients",
            ),
            Some(RowImageMode::NoBlob) => {
                for declared in &self.catalog.rules {
                    let line = self.line_of(declared);
                    for table in self
                        .schema
                        .tables
                        .iter()
                        .filter(|table| declared.pattern.matches(&table.table_name()))
                    {
                        for param in declared.rule.template().into_iter().flat_map(Template::params) {
                            let Some(column) = table.column(&param.name) else { continue };
                            if MysqlType::new(&column.mysql_type).is_large() {
                                let message = format!(
                                    "binlog_row_image is NOBLOB: updates of {}.{} lack its column {}, a part of a key",
                                    table.database, table.name, column.name
                                );
                                self.error(line, message, "set binlog_row_image = FULL on the MySQL server");
                            }
                        }
                    }
                }
            }
            Some(RowImageMode::Full) | None => {}
        }
    }
}

/// The parameter type for a column.
fn best(kind: Kind, text: &str) -> Option<&'static str> {
    Some(match kind {
        Kind::Int => "i64",
        Kind::Unsigned | Kind::Bit | Kind::Year => "u64",
        Kind::Decimal => "decimal",
        Kind::Date => "date",
        Kind::DateTime | Kind::Timestamp => "datetime",
        Kind::Time => "time",
        Kind::Char | Kind::Text | Kind::Enum | Kind::Set => "str",
        Kind::Binary if MysqlType::new(text).length() == Some(16) => "uuid or hex",
        Kind::Binary | Kind::Blob => "hex",
        Kind::Float | Kind::Json | Kind::Other => return None,
    })
}

#[cfg(test)]
mod tests;
