use super::*;

/// A row of `name = text` pairs; `NULL` is NULL.
struct Row<'a>(&'a [(&'a str, &'a str)]);

impl RowImage for Row<'_> {
    fn column(&self, name: &str) -> Column<'_> {
        match self.0.iter().find(|(column, _)| column.eq_ignore_ascii_case(name)) {
            None => Column::Missing,
            Some((_, "NULL")) => Column::Null,
            Some((_, text)) => Column::Text { text, mysql_type: None },
        }
    }
}

fn table(on: Ops, when_changed: &[&str], keys: Option<&str>) -> TableRules {
    let keys = keys.map(|text| Template::parse(text).unwrap());
    let when_changed = when_changed.iter().map(|column| (*column).into()).collect();
    TableRules::new(vec![Arc::new(Rule { on, when_changed, keys, tags: None, groups: vec![GroupId(3)] })])
}

fn effects(
    rules: &TableRules,
    op: Op,
    before: Option<&[(&str, &str)]>,
    after: Option<&[(&str, &str)]>,
) -> Vec<String> {
    let (before, after) = (before.map(Row), after.map(Row));
    let mut found = Vec::new();
    rules.map(
        op,
        before.as_ref().map(|row| row as &dyn RowImage),
        after.as_ref().map(|row| row as &dyn RowImage),
        &mut |effect| {
            found.push(match effect {
                Effect::Remove(key) => key,
                Effect::RemoveTag(tag) => format!("tag {tag}"),
                Effect::Flush { group, reason } => format!("flush {group} {}", reason.label()),
            });
        },
    );
    found
}

#[test]
fn each_kind_of_change_removes_the_keys_of_its_images() {
    let rules = table(Ops::ALL, &[], Some("user:{owner:u64}"));
    let (old, new): (&[_], &[_]) = (&[("OWNER", "1")], &[("owner", "2")]);
    assert_eq!(effects(&rules, Op::Insert, None, Some(new)), ["user:2"]);
    assert_eq!(effects(&rules, Op::Delete, Some(old), None), ["user:1"]);
    assert_eq!(effects(&rules, Op::Update, Some(old), Some(new)), ["user:1", "user:2"]);
    assert_eq!(effects(&rules, Op::Update, Some(new), Some(new)), ["user:2"]);
    assert_eq!(rules.columns(), ["owner".into()]);
    assert_eq!(rules.readers(), [GroupId(3)]);
}

#[test]
fn a_null_part_is_in_no_key() {
    let rules = table(Ops::ALL, &[], Some("user:{owner:u64}"));
    assert_eq!(effects(&rules, Op::Insert, None, Some(&[("owner", "NULL")])), Vec::<String>::new());
    assert_eq!(effects(&rules, Op::Update, Some(&[("owner", "NULL")]), Some(&[("owner", "2")])), ["user:2"]);
    assert_eq!(effects(&rules, Op::Update, Some(&[("owner", "2")]), Some(&[("owner", "NULL")])), ["user:2"]);
}

#[test]
fn what_the_row_can_not_tell_flushes_the_group() {
    let rules = table(Ops::ALL, &[], Some("user:{owner:u64}"));
    let good: &[_] = &[("owner", "2")];
    assert_eq!(effects(&rules, Op::Insert, None, Some(&[("id", "1")])), ["flush 3 missing_column"]);
    assert_eq!(effects(&rules, Op::Insert, None, Some(&[("owner", "x")])), ["flush 3 bad_value"]);
    assert_eq!(effects(&rules, Op::Update, None, Some(good)), ["flush 3 missing_image"]);
    assert_eq!(effects(&rules, Op::Update, Some(good), Some(&[])), ["user:2", "flush 3 missing_column"]);
    assert_eq!(effects(&rules, Op::Delete, None, None), ["flush 3 missing_image"]);
}

#[test]
fn when_changed_counts_changes_of_its_columns_and_of_the_key() {
    let rules = table(Ops::ALL, &["price"], Some("order:{id:u64}"));
    let row: &[_] = &[("id", "1"), ("price", "5")];
    assert_eq!(effects(&rules, Op::Update, Some(row), Some(row)), Vec::<String>::new());
    assert_eq!(effects(&rules, Op::Update, Some(row), Some(&[("id", "1"), ("price", "6")])), ["order:1"]);
    assert_eq!(
        effects(&rules, Op::Update, Some(row), Some(&[("id", "2"), ("price", "5")])),
        ["order:1", "order:2"]
    );
    assert_eq!(
        effects(&rules, Op::Update, Some(row), Some(&[("id", "1")])),
        ["order:1"],
        "an unknown price may differ"
    );
    assert_eq!(effects(&rules, Op::Insert, None, Some(row)), ["order:1"]);
}

#[test]
fn a_rule_is_only_for_its_kinds_of_change_and_may_flush() {
    let rules = table(Ops { insert: false, update: false, delete: true }, &[], None);
    assert_eq!(effects(&rules, Op::Insert, None, Some(&[])), Vec::<String>::new());
    assert_eq!(effects(&rules, Op::Delete, Some(&[]), None), ["flush 3 rule"]);
}
