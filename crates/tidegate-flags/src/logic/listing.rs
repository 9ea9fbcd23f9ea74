//! A program in words, one line per step: what an operator sees when they ask how a flag
//! was compiled.

use super::program::{HashInput, Program, Step};
use std::fmt::Write as _;

/// Lists the steps below `root`, indented by depth; variants by name.
pub(crate) fn list(program: &Program, root: Step, variants: &[&str]) -> String {
    let mut text = String::new();
    write_step(program, root, variants, 0, &mut text);
    text
}

fn write_step(program: &Program, step: Step, variants: &[&str], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let name = |index: u32| {
        usize::try_from(index)
            .ok()
            .and_then(|index| variants.get(index))
            .copied()
            .unwrap_or("?")
    };
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{indent}{text}");
    };
    match step {
        Step::Default => line(format_args!("default")),
        Step::Serve(variant) => line(format_args!("serve {}", name(variant))),
        Step::Unknown(atom) => line(format_args!("unknown {:?}", program.text(atom))),
        Step::Computed(node) => {
            line(format_args!(
                "compute {:?}",
                program.nodes.get(node.index())
            ));
        }
        Step::If { arms, otherwise } => {
            for (condition, next) in program.arms.get(arms.range()).unwrap_or_default() {
                let condition = program.nodes.get(condition.index());
                let _ = writeln!(out, "{indent}if {condition:?}");
                write_step(program, *next, variants, depth + 1, out);
            }
            let _ = writeln!(out, "{indent}else");
            write_step(program, program.step(otherwise), variants, depth + 1, out);
        }
        Step::Split { split, otherwise } => {
            let Some(table) = program.splits.get(split.index()) else {
                return;
            };
            match &table.input {
                HashInput::Implicit { .. } => line(format_args!("split by flag and targeting key")),
                HashInput::Joined { text, slot, .. } => {
                    let path = program.slots.get(slot.index()).map(|path| path.join("."));
                    line(format_args!(
                        "split by {text:?} and {}",
                        path.unwrap_or_default()
                    ));
                }
                HashInput::Computed(node) => {
                    line(format_args!(
                        "split by {:?}",
                        program.nodes.get(node.index())
                    ));
                }
            }
            for (index, outcome) in table.outcomes.iter().enumerate() {
                let (from, to) = table.boundaries.range(index);
                let _ = writeln!(out, "{indent}{from}..{to} of {}", table.boundaries.total());
                write_step(program, *outcome, variants, depth + 1, out);
            }
            if let Some(otherwise) = otherwise {
                let _ = writeln!(out, "{indent}without a unit");
                write_step(program, program.step(otherwise), variants, depth + 1, out);
            }
        }
    }
}
