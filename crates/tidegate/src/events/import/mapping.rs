//! The mapping: which column of a file is which part of an event, written in TOML.
//!
//! A plain word names a column, or is a constant where that can be meant (`kind`, `name`, a time);
//! `{ column = "x" }` and `{ const = "x" }` say it outright. Unknown keys are refused, and all that
//! is wrong is said at once. Whether the file has the columns is decided later, by
//! [`super::binding`].

use toml::{Table, Value};

/// Where a part of an event comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    /// A column if the file has one of this name, else a constant if that can be meant.
    Word(String),
    /// A column.
    Column(String),
    /// The same for every row.
    Constant(String),
}

/// What a time column counts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TimeUnit {
    /// RFC 3339, or a number whose size says what it counts.
    #[default]
    Auto,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// What a property's content is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PropertyType {
    /// As the file has it; everything in a CSV is text.
    #[default]
    AsIs,
    Text,
    Number,
    Bool,
}

/// One property.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) source: Field,
    pub(super) kind: PropertyType,
}

/// One column of a wide file that becomes an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) column: String,
    pub(super) name: String,
    /// Whether a 0 is an event too.
    pub(super) keeps_zero: bool,
}

/// What a row is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// One event.
    Event {
        kind: Field,
        name: Field,
        value: Option<Field>,
        variant: Option<Field>,
    },
    /// One unit with its arm and its outcomes.
    Unit {
        flag: String,
        arm: Field,
        outcomes: Vec<Outcome>,
        covariates: Vec<Outcome>,
    },
}

/// A mapping as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapping {
    pub(super) unit: Field,
    pub(super) time: Option<Field>,
    pub(super) time_unit: TimeUnit,
    pub(super) id: Option<Field>,
    pub(super) properties: Vec<Property>,
    pub(super) flags: Vec<(String, Field)>,
    pub(super) delimiter: Option<u8>,
    pub(super) form: Form,
}

/// What is wrong with a mapping, and the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {detail}")]
pub(super) struct MappingProblem {
    /// The key, dotted.
    pub(super) key: String,
    /// The rule and the cure.
    pub(super) detail: String,
}

impl MappingProblem {
    pub(super) fn new(key: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            detail: detail.into(),
        }
    }
}

/// Reads a mapping.
///
/// # Errors
/// Everything that is wrong with it.
#[cfg(test)]
pub(super) fn read(text: &str) -> Result<Mapping, Vec<MappingProblem>> {
    match read_with_problems(text)? {
        (mapping, problems) if problems.is_empty() => Ok(mapping),
        (_, problems) => Err(problems),
    }
}

/// Reads a mapping, with everything that is wrong with what could be read, so that a file's columns
/// can be looked at before all of it is said.
///
/// # Errors
/// What keeps it from being read at all.
pub(super) fn read_with_problems(
    text: &str,
) -> Result<(Mapping, Vec<MappingProblem>), Vec<MappingProblem>> {
    let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let place = error.span().map_or_else(String::new, |span| {
            let line = text.get(..span.start).unwrap_or(text).lines().count();
            format!("line {}", line.max(1))
        });
        vec![MappingProblem::new(place, error.message())]
    })?;
    let mut reader = Reader::default();
    let mapping = reader.mapping(&with_unit_on_top(table));
    Ok((mapping, reader.problems))
}

/// A mapping whose `[wide]` holds what may also stand above it, brought into one shape.
fn with_unit_on_top(mut table: Table) -> Table {
    for key in ["unit", "time", "properties"] {
        if table.contains_key(key) {
            continue;
        }
        let wide = table.get_mut("wide").and_then(Value::as_table_mut);
        if let Some(value) = wide.and_then(|wide| wide.remove(key)) {
            table.insert(key.to_owned(), value);
        }
    }
    table
}

const TOP: [&str; 11] = [
    "unit",
    "time",
    "kind",
    "name",
    "value",
    "variant",
    "id",
    "properties",
    "flags",
    "wide",
    "delimiter",
];
const ONLY_LONG: [&str; 5] = ["kind", "name", "value", "variant", "id"];

/// Collects what is wrong on the way; every accessor answers something usable.
#[derive(Default)]
struct Reader {
    problems: Vec<MappingProblem>,
}

impl Reader {
    fn refuse(&mut self, key: &str, detail: impl Into<String>) {
        self.problems.push(MappingProblem::new(key, detail));
    }

    fn mapping(&mut self, table: &Table) -> Mapping {
        self.known("", table, &TOP);
        let unit = self.required(table, "unit", "name the column with the unit's id");
        let (time, time_unit) = self.time(table);
        let form = match table.get("wide") {
            Some(Value::Table(wide)) => self.wide(table, wide),
            Some(_) => {
                self.refuse(
                    "wide",
                    "is a table: [wide] with flag, arm and [[wide.outcome]]",
                );
                Form::Unit {
                    flag: String::new(),
                    arm: Field::Word(String::new()),
                    outcomes: Vec::new(),
                    covariates: Vec::new(),
                }
            }
            None => self.long(table),
        };
        Mapping {
            unit,
            time,
            time_unit,
            id: self.optional(table, "id"),
            properties: self.properties(table),
            flags: self.flags(table),
            delimiter: self.delimiter(table),
            form,
        }
    }

    fn long(&mut self, table: &Table) -> Form {
        if !table.contains_key("time") {
            self.refuse("time", "is required: a column, or one time for all rows");
        }
        let track = Field::Constant("track".to_owned());
        Form::Event {
            kind: self.optional(table, "kind").unwrap_or(track),
            name: self.required(table, "name", "a column, or one event name for all rows"),
            value: self.optional(table, "value"),
            variant: self.optional(table, "variant"),
        }
    }

    fn wide(&mut self, table: &Table, wide: &Table) -> Form {
        for key in ONLY_LONG.into_iter().filter(|key| table.contains_key(*key)) {
            let detail = "has no place beside [wide], where a row is one unit; leave it out";
            self.refuse(key, detail);
        }
        self.known("wide.", wide, &["flag", "arm", "outcome", "covariate"]);
        let flag = self.text(
            wide,
            "wide.flag",
            "name the flag whose arms the units were in",
        );
        let arm = match wide.get("arm") {
            Some(value) => self.field("wide.arm", value, &[]),
            None => None,
        };
        if !wide.contains_key("arm") {
            self.refuse("wide.arm", "name the column with the unit's variant");
        }
        let outcomes = self.outcomes(wide, "outcome");
        let covariates = self.outcomes(wide, "covariate");
        if outcomes.is_empty() && !wide.contains_key("outcome") {
            let detail = "name at least one column: [[wide.outcome]] column = ..., name = ...";
            self.refuse("wide.outcome", detail);
        }
        Form::Unit {
            flag,
            arm: arm.unwrap_or(Field::Word(String::new())),
            outcomes,
            covariates,
        }
    }

    fn outcomes(&mut self, wide: &Table, key: &str) -> Vec<Outcome> {
        let tables = match wide.get(key) {
            None => return Vec::new(),
            Some(Value::Array(tables)) => tables.as_slice(),
            Some(one @ Value::Table(_)) => std::slice::from_ref(one),
            Some(_) => &[],
        };
        if tables.is_empty() {
            self.refuse(&format!("wide.{key}"), format!("is a list: [[wide.{key}]]"));
        }
        let mut outcomes = Vec::new();
        for (index, value) in tables.iter().enumerate() {
            let at = format!("wide.{key}[{index}]");
            let Value::Table(table) = value else {
                self.refuse(&at, "is a table with column and name");
                continue;
            };
            self.known(&format!("{at}."), table, &["column", "name", "keep_zero"]);
            let column = self.text(table, &format!("{at}.column"), "name the column");
            let name = match table.get("name") {
                Some(_) => self.text(table, &format!("{at}.name"), "name the event"),
                None => column.clone(),
            };
            let keeps_zero = match table.get("keep_zero") {
                None => false,
                Some(Value::Boolean(keeps)) => *keeps,
                Some(_) => {
                    self.refuse(&format!("{at}.keep_zero"), "is true or false");
                    false
                }
            };
            outcomes.push(Outcome {
                column,
                name,
                keeps_zero,
            });
        }
        outcomes
    }

    fn time(&mut self, table: &Table) -> (Option<Field>, TimeUnit) {
        let Some(value) = table.get("time") else {
            return (None, TimeUnit::Auto);
        };
        let unit = match value.as_table().and_then(|table| table.get("unit")) {
            None => TimeUnit::Auto,
            Some(unit) => match unit.as_str() {
                Some("s") => TimeUnit::Seconds,
                Some("ms") => TimeUnit::Milliseconds,
                Some("us") => TimeUnit::Microseconds,
                Some("ns") => TimeUnit::Nanoseconds,
                _ => {
                    self.refuse("time.unit", "is s, ms, us or ns, since 1970");
                    TimeUnit::Auto
                }
            },
        };
        (self.field("time", value, &["unit"]), unit)
    }

    fn properties(&mut self, table: &Table) -> Vec<Property> {
        let property = |name: &str, source| Property {
            name: name.to_owned(),
            source,
            kind: PropertyType::AsIs,
        };
        let mut found = Vec::new();
        match table.get("properties") {
            None => {}
            Some(Value::String(column)) => {
                found.push(property(column, Field::Column(column.clone())));
            }
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let at = format!("properties[{index}]");
                    match item {
                        Value::String(column) => {
                            found.push(property(column, Field::Column(column.clone())));
                        }
                        Value::Table(table) => found.extend(self.property(&at, table, None)),
                        _ => self.refuse(&at, "is a column, or a table with column and name"),
                    }
                }
            }
            Some(Value::Table(named)) => {
                for (name, value) in named {
                    let at = format!("properties.{name}");
                    match value {
                        Value::Table(table) => found.extend(self.property(&at, table, Some(name))),
                        value => {
                            let source = self.field(&at, value, &[]);
                            found.extend(source.map(|source| property(name, source)));
                        }
                    }
                }
            }
            Some(_) => self.refuse(
                "properties",
                "is a list of columns: [\"device\", \"country\"]",
            ),
        }
        found
    }

    fn property(&mut self, at: &str, table: &Table, name: Option<&str>) -> Option<Property> {
        let source = self.field(at, &Value::Table(table.clone()), &["name", "type"])?;
        let kind = match table.get("type").map(Value::as_str) {
            None => PropertyType::AsIs,
            Some(Some("text")) => PropertyType::Text,
            Some(Some("number")) => PropertyType::Number,
            Some(Some("bool")) => PropertyType::Bool,
            Some(_) => {
                self.refuse(&format!("{at}.type"), "is text, number or bool");
                PropertyType::AsIs
            }
        };
        let name = match (table.get("name"), name, &source) {
            (Some(_), _, _) => self.text(table, &format!("{at}.name"), "name the property"),
            (None, Some(name), _) => name.to_owned(),
            (None, None, Field::Column(column)) => column.clone(),
            (None, None, _) => {
                self.refuse(&format!("{at}.name"), "a constant property needs a name");
                String::new()
            }
        };
        Some(Property { name, source, kind })
    }

    fn flags(&mut self, table: &Table) -> Vec<(String, Field)> {
        match table.get("flags") {
            None => Vec::new(),
            Some(Value::Table(flags)) => {
                let mut found = Vec::new();
                for (flag, value) in flags {
                    let source = self.field(&format!("flags.{flag}"), value, &[]);
                    found.extend(source.map(|source| (flag.clone(), source)));
                }
                found
            }
            Some(_) => {
                let detail = "is a table of flag keys and columns: [flags] new-checkout = \"arm\"";
                self.refuse("flags", detail);
                Vec::new()
            }
        }
    }

    fn delimiter(&mut self, table: &Table) -> Option<u8> {
        let value = table.get("delimiter")?;
        match value.as_str().map(str::as_bytes) {
            Some([one]) if one.is_ascii() => Some(*one),
            _ => {
                self.refuse("delimiter", "is one character, such as \";\" or \"\\t\"");
                None
            }
        }
    }

    fn required(&mut self, table: &Table, key: &str, cure: &str) -> Field {
        if !table.contains_key(key) {
            self.refuse(key, format!("is required: {cure}"));
        }
        self.optional(table, key)
            .unwrap_or(Field::Word(String::new()))
    }

    fn optional(&mut self, table: &Table, key: &str) -> Option<Field> {
        self.field(key, table.get(key)?, &[])
    }

    /// A word, a constant, or a table with `column` or `const` and some keys besides.
    fn field(&mut self, key: &str, value: &Value, besides: &[&str]) -> Option<Field> {
        let Value::Table(table) = value else {
            return match value {
                Value::String(word) if word.is_empty() => {
                    self.refuse(key, "is empty; name a column");
                    None
                }
                Value::String(word) => Some(Field::Word(word.clone())),
                other => self.constant(key, other),
            };
        };
        let known: Vec<&str> = ["column", "const"].iter().chain(besides).copied().collect();
        self.known(&format!("{key}."), table, &known);
        match (table.get("column"), table.get("const")) {
            (Some(Value::String(column)), None) if !column.is_empty() => {
                Some(Field::Column(column.clone()))
            }
            (Some(_), None) => {
                self.refuse(&format!("{key}.column"), "is the name of a column");
                None
            }
            (None, Some(constant)) => self.constant(&format!("{key}.const"), constant),
            _ => {
                self.refuse(key, "needs either column or const");
                None
            }
        }
    }

    fn constant(&mut self, key: &str, value: &Value) -> Option<Field> {
        match value {
            Value::String(text) => Some(Field::Constant(text.clone())),
            Value::Integer(number) => Some(Field::Constant(number.to_string())),
            Value::Float(number) => Some(Field::Constant(number.to_string())),
            Value::Boolean(truth) => Some(Field::Constant(truth.to_string())),
            Value::Datetime(time) => Some(Field::Constant(time.to_string())),
            Value::Array(_) | Value::Table(_) => {
                self.refuse(key, "is one value, not a list");
                None
            }
        }
    }

    /// A text under the last part of a dotted key.
    fn text(&mut self, table: &Table, key: &str, cure: &str) -> String {
        let name = key.rsplit('.').next().unwrap_or(key);
        match table.get(name) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(_) => {
                self.refuse(key, "is a text that is not empty");
                String::new()
            }
            None => {
                self.refuse(key, format!("is required: {cure}"));
                String::new()
            }
        }
    }

    fn known(&mut self, prefix: &str, table: &Table, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let detail = format!("is no key here; the keys are {}", known.join(", "));
            self.refuse(&format!("{prefix}{key}"), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_mapping_and_its_long_spelling_are_read() {
        let mapping = read(
            "unit = \"customer\"\ntime = { column = \"ts\", unit = \"ms\" }\nname = \"event\"\n\
             properties = [\"device\", { column = \"size\", name = \"basket\", type = \"number\" }]\n\
             [flags]\ncheckout = \"arm\"\n",
        )
        .unwrap();
        assert_eq!(mapping.unit, Field::Word("customer".to_owned()));
        assert_eq!(mapping.time, Some(Field::Column("ts".to_owned())));
        assert_eq!(mapping.time_unit, TimeUnit::Milliseconds);
        assert_eq!(mapping.properties[1].name, "basket");
        assert_eq!(mapping.properties[1].kind, PropertyType::Number);
        let Form::Event { kind, .. } = mapping.form else {
            panic!("a row is an event")
        };
        assert_eq!(kind, Field::Constant("track".to_owned()));
    }

    #[test]
    fn the_unit_may_stand_in_the_wide_table_too() {
        let wide = "flag = \"f\"\narm = \"a\"\n[[wide.outcome]]\ncolumn = \"x\"\n";
        let inside = read(&format!("[wide]\nunit = \"u\"\ntime = \"t\"\n{wide}")).unwrap();
        let above = read(&format!("unit = \"u\"\ntime = \"t\"\n[wide]\n{wide}")).unwrap();
        assert_eq!(inside, above);
    }

    #[test]
    fn an_unquoted_time_is_a_constant() {
        let text = "unit = \"u\"\ntime = 2026-06-01T00:00:00Z\nname = \"n\"\n";
        let expected = Field::Constant("2026-06-01T00:00:00Z".to_owned());
        assert_eq!(read(text).unwrap().time, Some(expected));
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let problems = read(
            "tiem = \"ts\"\nname = [\"a\"]\nproperties = [{ const = \"x\" }]\ndelimiter = \"ab\"\n",
        )
        .unwrap_err();
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "tiem",
                "unit",
                "time",
                "name",
                "properties[0].name",
                "delimiter"
            ]
        );
        let problems = read(
            "unit = \"u\"\nkind = \"track\"\n[wide]\nflag = 3\n[[wide.outcome]]\ncolum = \"x\"\n",
        )
        .unwrap_err();
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "kind",
                "wide.flag",
                "wide.arm",
                "wide.outcome[0].colum",
                "wide.outcome[0].column"
            ]
        );
        assert_eq!(read("unit = ").unwrap_err()[0].key, "line 1");
    }
}
