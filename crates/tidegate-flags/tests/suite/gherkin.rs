//! The part of Gherkin that flagd's test kit uses: tags, backgrounds, outlines, tables.

/// A concrete scenario: outline rows are filled in.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) feature: String,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// A step without its keyword, with the table below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) table: Vec<Vec<String>>,
}

#[derive(Default)]
struct Outline {
    name: String,
    tags: Vec<String>,
    steps: Vec<Step>,
    examples: Vec<(Vec<String>, Vec<Vec<String>>)>,
    is_outline: bool,
}

/// Reads a feature file into concrete scenarios.
pub(crate) fn parse(text: &str) -> Vec<Scenario> {
    let mut feature = String::new();
    let mut feature_tags: Vec<String> = Vec::new();
    let mut background: Vec<Step> = Vec::new();
    let mut outlines: Vec<Outline> = Vec::new();
    let mut tags: Vec<String> = Vec::new();
    let mut in_background = false;
    let mut in_examples = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            tags.extend(
                line.split_whitespace()
                    .map(|tag| tag.trim_start_matches('@').to_owned()),
            );
        } else if let Some(name) = line.strip_prefix("Feature:") {
            feature = name.trim().to_owned();
            feature_tags = std::mem::take(&mut tags);
        } else if line.starts_with("Background:") {
            in_background = true;
        } else if let Some((keyword, name)) = line
            .split_once(':')
            .filter(|(keyword, _)| keyword.starts_with("Scenario"))
        {
            (in_background, in_examples) = (false, false);
            outlines.push(Outline {
                name: name.trim().to_owned(),
                tags: std::mem::take(&mut tags),
                is_outline: keyword.ends_with("Outline"),
                ..Outline::default()
            });
        } else if line.starts_with("Examples:") {
            in_examples = true;
            let outline = outlines.last_mut().expect("examples follow a scenario");
            outline
                .examples
                .push((std::mem::take(&mut tags), Vec::new()));
        } else if line.starts_with('|') {
            let row = cells(line);
            let outline = outlines.last_mut();
            match outline {
                Some(outline) if in_examples => {
                    outline
                        .examples
                        .last_mut()
                        .expect("rows follow Examples:")
                        .1
                        .push(row);
                }
                Some(outline) => {
                    outline
                        .steps
                        .last_mut()
                        .expect("a table follows a step")
                        .table
                        .push(row);
                }
                None => background
                    .last_mut()
                    .expect("a table follows a step")
                    .table
                    .push(row),
            }
        } else if let Some((_, text)) = line
            .split_once(' ')
            .filter(|(keyword, _)| ["Given", "When", "Then", "And", "But"].contains(keyword))
        {
            let step = Step {
                text: text.to_owned(),
                table: Vec::new(),
            };
            match outlines.last_mut() {
                Some(outline) if !in_background => outline.steps.push(step),
                _ => background.push(step),
            }
        }
    }
    outlines
        .iter()
        .flat_map(|outline| outline.fill(&feature, &feature_tags, &background))
        .collect()
}

impl Outline {
    fn fill(&self, feature: &str, inherited: &[String], background: &[Step]) -> Vec<Scenario> {
        let steps: Vec<Step> = background.iter().chain(&self.steps).cloned().collect();
        let scenario = |tags: &[String], steps: Vec<Step>| Scenario {
            feature: feature.to_owned(),
            name: self.name.clone(),
            tags: inherited
                .iter()
                .chain(&self.tags)
                .chain(tags)
                .cloned()
                .collect(),
            steps,
        };
        if !self.is_outline {
            return vec![scenario(&[], steps)];
        }
        let mut filled = Vec::new();
        for (tags, rows) in &self.examples {
            let (header, rows) = rows.split_first().expect("examples have a header");
            for row in rows {
                let fill = |text: &str| {
                    header
                        .iter()
                        .zip(row)
                        .fold(text.to_owned(), |text, (name, value)| {
                            text.replace(&format!("<{name}>"), value)
                        })
                };
                let steps = steps.iter().map(|step| Step {
                    text: fill(&step.text),
                    table: step
                        .table
                        .iter()
                        .map(|row| row.iter().map(|cell| fill(cell)).collect())
                        .collect(),
                });
                filled.push(scenario(tags, steps.collect()));
            }
        }
        filled
    }
}

/// The cells of a table row; `\|`, `\\` and `\n` are escapes, other backslashes are text.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut characters = line.trim_start_matches('|').chars().peekable();
    while let Some(character) = characters.next() {
        let cell = cells.last_mut().expect("never empty");
        match (character, characters.peek()) {
            ('|', _) => cells.push(String::new()),
            ('\\', Some(escaped @ ('|' | '\\'))) => {
                cell.push(*escaped);
                characters.next();
            }
            ('\\', Some('n')) => {
                cell.push('\n');
                characters.next();
            }
            _ => cell.push(character),
        }
    }
    cells.pop();
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}
