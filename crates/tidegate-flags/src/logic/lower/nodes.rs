//! Lowering what computes: operators and their arguments.

use super::{
    LowerError, Lowered, Lowering, Place, Token, bucket_by_and_entries, is_constant, operation,
};
use crate::logic::program::{
    Arithmetic, Iteration, Node, NodeId, Order, Run, SlotId, TARGETING_KEY,
};
use crate::logic::value::{Atom, Val};
use crate::logic::{coerce, operators};
use crate::semantic_version::{SemanticVersion, VersionTest};
use serde_json::Value;

impl Lowering<'_, '_> {
    pub(super) fn node(&mut self, value: &Value, place: &Place<'_>) -> Lowered<NodeId> {
        self.enter(place, 1)?;
        let node = match value {
            Value::Null => Node::Null,
            Value::Bool(flag) => Node::Bool(*flag),
            Value::Number(number) => match Val::of_number(number) {
                Val::Int(value) => Node::Int(value),
                Val::Uint(value) => Node::Uint(value),
                other => Node::Float(coerce::to_number(&other)),
            },
            Value::String(text) => Node::Str(self.builder.atom(text)),
            Value::Array(items) if is_constant(value) => {
                self.enter(place, items.len())?;
                Node::Json(Box::new(value.clone()))
            }
            Value::Array(items) => Node::Array(self.all(items, place)?),
            Value::Object(_) => match operation(value) {
                Some((operator, arguments)) => {
                    self.operator(operator, arguments, &place.child(Token::Key(operator)))?
                }
                None => Node::Json(Box::new(value.clone())),
            },
        };
        Ok(self.builder.node(node))
    }

    fn all(&mut self, values: &[Value], place: &Place<'_>) -> Lowered<Run> {
        let operands: Vec<NodeId> = values
            .iter()
            .enumerate()
            .map(|(index, value)| self.node(value, &place.argument(index)))
            .collect::<Lowered<_>>()?;
        Ok(self.builder.operands(&operands))
    }

    fn operator(
        &mut self,
        operator: &str,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let argument = |lowering: &mut Self, index: usize| match arguments.get(index) {
            Some(value) => lowering.node(value, &place.argument(index)),
            None => Ok(lowering.builder.node(Node::Null)),
        };
        let node = match operator {
            "var" => return self.var(arguments, place),
            "if" => return self.if_node(arguments, place),
            "in" => return self.membership(arguments, place),
            "==" | "===" => return self.equality(arguments, operator == "===", place),
            "!=" | "!==" => {
                let equal = self.equality(arguments, operator == "!==", place)?;
                Node::Not(self.builder.node(equal))
            }
            "<" => return self.comparison(Order::Less, arguments, place),
            "<=" => return self.comparison(Order::LessOrEqual, arguments, place),
            ">" => return self.comparison(Order::Greater, arguments, place),
            ">=" => return self.comparison(Order::GreaterOrEqual, arguments, place),
            "fractional" => return self.fractional_node(arguments, place),
            "sem_ver" => return self.sem_ver(arguments, place),
            "starts_with" | "ends_with" if arguments.len() != 2 => Node::Null,
            "starts_with" => Node::StartsWith(argument(self, 0)?, argument(self, 1)?),
            "ends_with" => Node::EndsWith(argument(self, 0)?, argument(self, 1)?),
            "missing" => {
                self.reads.everything |= !place.in_scope;
                Node::Missing {
                    names: self.all(arguments, place)?,
                    in_scope: place.in_scope,
                }
            }
            "missing_some" => {
                self.reads.everything |= !place.in_scope;
                let (need, names) = (argument(self, 0)?, argument(self, 1)?);
                Node::MissingSome {
                    need,
                    names,
                    in_scope: place.in_scope,
                }
            }
            "!" => Node::Not(argument(self, 0)?),
            "!!" => Node::Truthy(argument(self, 0)?),
            "and" => Node::And(self.all(arguments, place)?),
            "or" => Node::Or(self.all(arguments, place)?),
            "+" => Node::Arithmetic(Arithmetic::Add, self.all(arguments, place)?),
            "-" => Node::Arithmetic(Arithmetic::Subtract, self.all(arguments, place)?),
            "*" => Node::Arithmetic(Arithmetic::Multiply, self.all(arguments, place)?),
            "/" => Node::Arithmetic(Arithmetic::Divide, self.all(arguments, place)?),
            "%" => Node::Arithmetic(Arithmetic::Remainder, self.all(arguments, place)?),
            "min" => Node::Arithmetic(Arithmetic::Min, self.all(arguments, place)?),
            "max" => Node::Arithmetic(Arithmetic::Max, self.all(arguments, place)?),
            "merge" => Node::Merge(self.all(arguments, place)?),
            "cat" => Node::Cat(self.all(arguments, place)?),
            "substr" => {
                let length = match arguments.get(2) {
                    Some(_) => Some(argument(self, 2)?),
                    None => None,
                };
                Node::Substr {
                    text: argument(self, 0)?,
                    start: argument(self, 1)?,
                    length,
                }
            }
            "map" => return self.iteration(Iteration::Map, arguments, place),
            "filter" => return self.iteration(Iteration::Filter, arguments, place),
            "all" => return self.iteration(Iteration::All, arguments, place),
            "some" => return self.iteration(Iteration::Some, arguments, place),
            "none" => return self.iteration(Iteration::None, arguments, place),
            "reduce" => return self.reduction(arguments, place),
            "$ref" => {
                let name = arguments
                    .first()
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                return Err(LowerError::UnknownReference {
                    name,
                    pointer: place.pointer(),
                });
            }
            _ => {
                let operator = operator.to_owned();
                return Err(LowerError::UnknownOperator {
                    operator,
                    pointer: place.pointer(),
                });
            }
        };
        Ok(node)
    }

    fn var(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let default = match arguments.get(1) {
            Some(value) => Some(self.node(value, &place.argument(1))?),
            None => None,
        };
        let name = arguments.first().unwrap_or(&Value::Null);
        if !is_constant(name) {
            self.reads.everything |= !place.in_scope;
            let name = self.node(name, &place.argument(0))?;
            return Ok(Node::Var {
                name,
                default,
                in_scope: place.in_scope,
            });
        }
        let name = Val::of(name);
        let path = coerce::to_joined_text(&name);
        if place.in_scope {
            let path = if path.is_empty() {
                Box::default()
            } else {
                path.split('.').map(Box::from).collect()
            };
            return Ok(Node::Element { path, default });
        }
        Ok(self.attribute(&path, default))
    }

    fn attribute(&mut self, path: &str, default: Option<NodeId>) -> Node {
        match path {
            "" => {
                self.reads.everything = true;
                Node::Context
            }
            "$flagd" => {
                self.reads.time = true;
                Node::FlagdObject
            }
            "$flagd.flagKey" => Node::Str(self.builder.atom(self.target.key)),
            "$flagd.timestamp" => {
                self.reads.time = true;
                Node::Timestamp
            }
            _ if path.starts_with("$flagd.") => {
                let constant = default.and_then(|id| self.builder.program.nodes.get(id.index()));
                constant.cloned().unwrap_or(Node::Null)
            }
            _ => {
                let slot = self.builder.slot(path);
                self.reads.targeting_key |= slot == TARGETING_KEY;
                if !self.reads.attributes.iter().any(|known| known == path) {
                    self.reads.attributes.push(path.to_owned());
                }
                default.map_or(Node::Slot(slot), |default| Node::SlotOr(slot, default))
            }
        }
    }

    fn if_node(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let (pairs, rest) = arguments.as_chunks::<2>();
        let paired = self.all(pairs.as_flattened(), place)?;
        let otherwise = self.node(
            rest.first().unwrap_or(&Value::Null),
            &place.argument(2 * pairs.len()),
        )?;
        Ok(Node::If {
            arms: paired,
            otherwise,
        })
    }

    fn pair(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<(NodeId, NodeId)> {
        let mut both = [Node::Null, Node::Null].map(|null| self.builder.node(null));
        for (index, (id, value)) in both.iter_mut().zip(arguments).enumerate() {
            *id = self.node(value, &place.argument(index))?;
        }
        Ok((both[0], both[1]))
    }

    fn slot_of(&self, node: NodeId) -> Option<SlotId> {
        match self.builder.program.nodes.get(node.index()) {
            Some(Node::Slot(slot)) => Some(*slot),
            _ => None,
        }
    }

    fn text_of(&self, node: NodeId) -> Option<Atom> {
        match self.builder.program.nodes.get(node.index()) {
            Some(Node::Str(atom)) => Some(*atom),
            _ => None,
        }
    }

    fn equality(
        &mut self,
        arguments: &[Value],
        is_strict: bool,
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let (a, b) = self.pair(arguments, place)?;
        let slot_and_text = |a, b| self.slot_of(a).zip(self.text_of(b));
        Ok(match slot_and_text(a, b).or_else(|| slot_and_text(b, a)) {
            Some((slot, text)) => Node::SlotIs {
                slot,
                text,
                is_strict,
            },
            None => Node::Equal { a, b, is_strict },
        })
    }

    fn comparison(
        &mut self,
        order: Order,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let (a, b) = self.pair(arguments, place)?;
        let is_between = matches!(order, Order::Less | Order::LessOrEqual);
        let c = match arguments.get(2) {
            Some(value) if is_between => Some(self.node(value, &place.argument(2))?),
            _ => None,
        };
        Ok(Node::Compare { order, a, b, c })
    }

    fn membership(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        if let [needle, Value::Array(stack)] = arguments
            && !stack.is_empty()
            && stack.iter().all(Value::is_string)
        {
            self.enter(place, stack.len())?;
            let node = self.node(needle, &place.argument(0))?;
            if let Some(slot) = self.slot_of(node) {
                let texts = stack.iter().filter_map(Value::as_str);
                let atoms = texts.map(|text| self.builder.atom(text)).collect();
                let set = self.builder.set(atoms);
                return Ok(Node::SlotIn { slot, set });
            }
        }
        let (needle, stack) = self.pair(arguments, place)?;
        Ok(Node::In { needle, stack })
    }

    fn iteration(
        &mut self,
        iteration: Iteration,
        arguments: &[Value],
        place: &Place<'_>,
    ) -> Lowered<Node> {
        let list = self.node(
            arguments.first().unwrap_or(&Value::Null),
            &place.argument(0),
        )?;
        let body = self.node(arguments.get(1).unwrap_or(&Value::Null), &place.scoped(1))?;
        Ok(Node::Iterate {
            iteration,
            list,
            body,
        })
    }

    fn reduction(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let list = self.node(
            arguments.first().unwrap_or(&Value::Null),
            &place.argument(0),
        )?;
        let body = self.node(arguments.get(1).unwrap_or(&Value::Null), &place.scoped(1))?;
        let initial = match arguments.get(2) {
            Some(value) => Some(self.node(value, &place.argument(2))?),
            None => None,
        };
        Ok(Node::Reduce {
            list,
            body,
            initial,
        })
    }

    fn sem_ver(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let [value, test, target] = arguments else {
            return Ok(Node::Null);
        };
        let value = self.node(value, &place.argument(0))?;
        if is_constant(test) && is_constant(target) {
            let target = Val::of(target);
            let text = operators::version_text(&target);
            let text = text
                .as_deref()
                .filter(|text| SemanticVersion::parse(text).is_some());
            let test = test.as_str().and_then(VersionTest::from_operator);
            return Ok(match (test, text) {
                (Some(test), Some(text)) => {
                    let target = self.builder.atom(text);
                    Node::SemVerConstant {
                        value,
                        test,
                        target,
                    }
                }
                _ => Node::Null,
            });
        }
        let test = self.node(test, &place.argument(1))?;
        let target = self.node(target, &place.argument(2))?;
        Ok(Node::SemVer {
            value,
            test,
            target,
        })
    }

    pub(super) fn fractional(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<NodeId> {
        let node = self.fractional_node(arguments, place)?;
        Ok(self.builder.node(node))
    }

    fn fractional_node(&mut self, arguments: &[Value], place: &Place<'_>) -> Lowered<Node> {
        let (by, entries) = bucket_by_and_entries(arguments);
        self.reads.targeting_key |= !place.in_scope;
        let bucket_by = match by {
            Some(by) => Some(self.node(by, &place.argument(0))?),
            None => None,
        };
        let entries = self.all(entries, place)?;
        Ok(Node::Fractional {
            bucket_by,
            entries,
            in_scope: place.in_scope,
        })
    }
}
