//! `check`: the configuration and its catalog, and whether a live schema bears it.

mod part;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use catalog::{Catalog, Group, Kind, Op, Origin, Problem, Report, Severity, TableUse, Use, schema::Stream};
use daemon::config::{
    BinlogSource, ClientSection, Cluster, Database, DatabaseUrl, KafkaFormat, KafkaFormats, KafkaSource,
    Layers, Problems, Telemetry,
};
use serde_json::{Value, json};

use crate::{
    cli::{CheckArgs, Ended},
    dev::state::State,
    output::Output,
};

/// How long a live database may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
const DEFAULT_FILE: &str = "freshline.toml";

pub(crate) async fn check(args: &CheckArgs, output: &Output) -> anyhow::Result<Ended> {
    let file = match &args.config {
        Some(file) => file.clone(),
        // As for the other commands: that of the running `freshline dev` comes before the file that is here.
        None => State::running()
            .map(|dev| dev.catalog)
            .filter(|catalog| catalog.is_file())
            .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)),
    };
    let file = file.as_path();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read {}: name the file with --config", file.display()))?;
    let mut findings = sections(file);
    let mut part = None;
    let catalog = match Catalog::parse(&file.display().to_string(), &text) {
        Ok(catalog) => {
            findings.report(&Report { problems: catalog.warnings().to_vec() });
            Some(Arc::new(catalog.with_streams(streams(file))))
        }
        Err(report) => {
            findings.report(&report);
            part = part::without_mistakes(&file.display().to_string(), &text, &report);
            None
        }
    };
    if let (Some(url), Some(catalog)) = (&args.database, &catalog) {
        findings.report(&live(url, catalog).await?);
    }
    let shown = catalog.as_deref().or(part.as_ref());
    let uses = shown.map(Catalog::tables).unwrap_or_default();
    let groups = shown.map(Catalog::groups).unwrap_or_default();
    if output.json {
        output.value(&json!({
            "file": file.display().to_string(),
            "ok": findings.errors.is_empty(),
            "errors": findings.errors,
            "warnings": findings.warnings,
            "groups": groups.iter().map(|group| object(group, &uses)).collect::<Vec<_>>(),
        }))?;
    } else {
        for group in groups {
            describe(group, &uses, output)?;
        }
        if part.is_some() {
            output.note("groups and rules with errors are left out above, and rules that name such groups");
        }
        for warning in &findings.warnings {
            output.note(warning);
        }
        for error in &findings.errors {
            output.note(error);
        }
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let verdict = format!(
            "{}: {}, {}, {}",
            file.display(),
            count(groups.len(), "group"),
            count(findings.errors.len(), "error"),
            count(findings.warnings.len(), "warning")
        );
        if findings.errors.is_empty() {
            output.line(output.green(&verdict))?;
        } else {
            output.error(&verdict);
        }
    }
    Ok(if findings.errors.is_empty() { Ended::Done } else { Ended::Failed })
}

#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn report(&mut self, report: &Report) {
        for problem in &report.problems {
            let list = match problem.severity {
                Severity::Error => &mut self.errors,
                Severity::Warning => &mut self.warnings,
            };
            list.push(Problem::to_string(problem));
        }
    }
}

/// What is wrong with the sections beside the catalog.
fn sections(file: &Path) -> Findings {
    let mut problems = Problems::default();
    match Layers::load(Some(file)) {
        Ok(layers) => {
            layers.section::<Cluster>("cluster", &mut problems).check(&layers, &mut problems);
            layers.section::<ClientSection>("client", &mut problems).check(&layers, &mut problems);
            layers.section::<Telemetry>("telemetry", &mut problems).check(&layers, &mut problems);
            layers.section::<cache_node::Config>("node", &mut problems).check(&layers, &mut problems);
            layers.section::<sync_service::config::Sync>("sync", &mut problems).check(&layers, &mut problems);
            // A catalog alone has neither, and that is fine here.
            let database: Database = layers.section("database", &mut problems);
            if layers.has("database") {
                database.check(&layers, &mut problems);
            }
            let source: KafkaSource = layers.section("source.kafka", &mut problems);
            if layers.has("source.kafka") {
                source.check(&layers, &mut problems);
                if let Err(error) = sync_service::decode::Topics::new(&source) {
                    problems.push(error);
                }
            }
            let binlog: BinlogSource = layers.section("source.binlog", &mut problems);
            if layers.has("source.binlog") {
                let cluster: Cluster = layers.section("cluster", &mut Problems::default());
                binlog.check(!cluster.etcd.is_empty(), &layers, &mut problems);
            }
        }
        Err(more) => problems.extend(more),
    }
    Findings { errors: problems.to_string().lines().map(String::from).collect(), warnings: Vec::new() }
}

/// Through what changes come, as far as the file says it; its mistakes are told by [`sections`].
fn streams(file: &Path) -> Vec<Stream> {
    let Ok(layers) = Layers::load(Some(file)) else { return Vec::new() };
    let mut streams = Vec::new();
    if layers.has("source.kafka") {
        let source: KafkaSource = layers.section("source.kafka", &mut Problems::default());
        let formats = match source.format {
            KafkaFormats::One(format) => vec![format],
            KafkaFormats::Topics(topics) => topics.into_values().collect(),
        };
        streams.extend(formats.into_iter().map(|format| match format {
            KafkaFormat::Canal => Stream::Canal,
            KafkaFormat::Debezium | KafkaFormat::DebeziumUnwrapped => Stream::Debezium,
            KafkaFormat::Maxwell => Stream::Maxwell,
            KafkaFormat::Aliyun => Stream::Aliyun,
        }));
    }
    if layers.has("source.binlog") {
        streams.push(Stream::Binlog);
    }
    let mut all: Vec<Stream> = Vec::new();
    for stream in streams {
        if !all.contains(&stream) {
            all.push(stream);
        }
    }
    all
}

/// Reads the live schema, tries every query, and compares.
async fn live(url: &str, catalog: &Arc<Catalog>) -> anyhow::Result<Report> {
    if let Some(path) = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
        anyhow::ensure!(Path::new(path).is_file(), "open the database: there is no file {path}");
    }
    let database = Database { url: DatabaseUrl::new(url), ..Database::default() };
    let source = loader::open(&database, catalog).context("open the database")?;
    tokio::time::timeout(PATIENCE, source.check())
        .await
        .with_context(|| format!("check against {}: it did not answer within {PATIENCE:?}", database.url))?
        .context("check against the live schema")
}

fn describe(group: &Group, uses: &[TableUse], output: &Output) -> anyhow::Result<()> {
    output.line(format!("{}  {}", output.bold(&group.name), output.dim(&group.template.to_string())))?;
    if group.is_plain() {
        output.line("  plain: applications set, read and remove its values")?;
    } else if group.is_look_aside() {
        output.line("  look-aside: applications set its values")?;
        if !uses.iter().any(|use_| use_.group == group.name) {
            output.line("  nothing makes it stale (rules = \"none\"): values go when their time is over")?;
        }
    }
    for use_ in uses.iter().filter(|use_| use_.group == group.name) {
        output.line(format!("  {} {} {}", use_.table, output.dim("->"), effect(use_)))?;
    }
    if !group.tagging.is_empty() {
        let tags: Vec<&str> = group.tagging.templates().map(catalog::Template::text).collect();
        output.line(format!("  {} {}", output.dim("entries carry"), tags.join(", ")))?;
    }
    Ok(())
}

/// `removes user:{id}, on insert or update, when name or city changed`.
fn effect(use_: &TableUse) -> String {
    let mut text = match &use_.effect {
        Use::Keys(template) => format!("removes {template}"),
        Use::Tags { tag, .. } => format!("removes what carries {tag}"),
        Use::Flush => "flushes the group".to_owned(),
        Use::Ignored => "nothing, ignored".to_owned(),
    };
    if use_.on != Op::ALL {
        text += ", on ";
        text += &use_.on.iter().copied().map(named).collect::<Vec<_>>().join(" or ");
    }
    if !use_.when_changed.is_empty() {
        text += ", when ";
        text += &use_.when_changed.join(" or ");
        text += " changed";
    }
    if let Use::Tags { flush: Some(columns), .. } = &use_.effect {
        text += "; flushes the group for a new row, or when ";
        text += &columns.join(" or ");
        text += " changed";
    }
    match use_.origin {
        Origin::Query | Origin::Ignore => text,
        Origin::Rule(line) => format!("{text} (rule at line {line})"),
    }
}

/// A kind of row change, as a rule's `on` names it.
fn named(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Delete => "delete",
    }
}

fn object(group: &Group, uses: &[TableUse]) -> Value {
    let tables: Vec<Value> = uses
        .iter()
        .filter(|use_| use_.group == group.name)
        .map(|use_| {
            let flush = match &use_.effect {
                Use::Tags { flush, .. } => flush.as_ref(),
                _ => None,
            };
            let (effect, template) = match &use_.effect {
                Use::Keys(template) => ("keys", Some(template)),
                Use::Tags { tag, .. } => ("tags", Some(tag)),
                Use::Flush => ("flush", None),
                Use::Ignored => ("ignore", None),
            };
            let (origin, line) = match use_.origin {
                Origin::Query => ("query", None),
                Origin::Rule(line) => ("rule", Some(line)),
                Origin::Ignore => ("ignore", None),
            };
            json!({
                "table": use_.table, "effect": effect, "keys": template.filter(|_| effect == "keys"),
                "tags": template.filter(|_| effect == "tags"), "flush_when_joined": flush,
                "on": use_.on.iter().copied().map(named).collect::<Vec<_>>(), "when_changed": use_.when_changed,
                "origin": origin, "line": line,
            })
        })
        .collect();
    json!({
        "name": &*group.name,
        "key": group.template.to_string(),
        "kind": kind(group),
        "query": group.query.as_ref().map(catalog::Query::text),
        "ttl_seconds": group.ttl.as_secs_f64(),
        "negative_ttl_seconds": group.negative_ttl.as_secs_f64(),
        "tables": tables,
        "tags": group.tagging.templates().map(catalog::Template::text).collect::<Vec<_>>(),
    })
}

fn kind(group: &Group) -> &'static str {
    match group.kind {
        Kind::Filled => "filled",
        Kind::LookAside => "look_aside",
        Kind::Plain => "plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_through_what_changes_come() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            let file = folder.path().join("freshline.toml");
            std::fs::write(&file, text).unwrap();
            streams(&file)
        };
        assert_eq!(of(""), []);
        assert_eq!(of("[source.kafka]\nbrokers = \"k:9092\"\ntopics = [\"shop\"]\n"), [Stream::Canal]);
        let several = "format = { a = \"maxwell\", b = \"debezium_unwrapped\", \"^c\" = \"debezium\" }\n";
        assert_eq!(
            of(&format!("[source.kafka]\nbrokers = \"k:9092\"\ntopics = [\"a\"]\n{several}")),
            [Stream::Debezium, Stream::Maxwell]
        );
        assert_eq!(of("[source.binlog]\n"), [Stream::Binlog]);
    }
}
