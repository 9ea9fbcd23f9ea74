//! Scenarios as text: every file of `spec/rollout/scenarios` holds a script (lines starting with `> `) and, under
//! each line, what the rollout does. The test plays the script and compares the whole text.
//!
//! When a transcript changes on purpose, the test leaves the new text beside the build and names it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::world::{EPOCH, Fault, SECOND, World};
use tidegate_rollout::command::{self, Command};
use tidegate_rollout::executor::ExecutorEvent;
use tidegate_rollout::{
    Action, BasisPoints, Measured, Plan, RolloutEvent, RolloutSpec, Rung, SourceStatus,
};

struct Player {
    world: Option<World>,
    output: String,
    fail_in: Option<u64>,
}

#[test]
fn every_transcript_is_what_the_rollout_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/rollout/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "scenarios are missing: {}", files.len());
    let mut changed = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = play(&expected);
        if actual != expected {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file.file_name().unwrap());
            std::fs::write(&kept, &actual).unwrap();
            changed.push(format!(
                "{} differs, see {}\n{actual}",
                file.display(),
                kept.display()
            ));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

/// Plays a script and returns script and transcript interleaved.
fn play(text: &str) -> String {
    let mut player = Player {
        world: None,
        output: String::new(),
        fail_in: None,
    };
    for line in text
        .lines()
        .filter(|l| l.starts_with("> ") || l.starts_with('#') || l.is_empty())
    {
        player.output.push_str(line);
        player.output.push('\n');
        if let Some(script) = line.strip_prefix("> ") {
            player.line(script);
        }
    }
    player.output
}

impl Player {
    fn say(&mut self, text: impl AsRef<str>) {
        writeln!(self.output, "  {}", text.as_ref()).unwrap();
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("a script begins with `plan`")
    }

    /// `break 3` refuses the third effect from now.
    fn next_fault(&mut self) -> Fault {
        self.fail_in = self.fail_in.map(|left| left.saturating_sub(1));
        if self.fail_in == Some(0) {
            self.fail_in = None;
            return Fault::Refused;
        }
        Fault::None
    }

    fn line(&mut self, script: &str) {
        let (verb, rest) = script.split_once(' ').unwrap_or((script, ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        match verb {
            "plan" => self.plan(rest),
            "wait" => self.world().clock_us += duration(words[0]),
            "clock" => self.world().clock_us += duration(words[0]),
            "traffic" => self.world().traffic(number(words[0]), number(words[1])),
            "fail" | "slow" => {
                let rung = if verb == "slow" { number(words[3]) } else { 0 };
                let rung = usize::try_from(rung).unwrap();
                self.world()
                    .events(words[0], rung, number(words[1]), number(words[2]));
            }
            "ladder" => self.ladder(&words),
            "source" => self.source(&words),
            "both-arms" => self.world().observations.multiply_exposed_units = number(words[0]),
            "unproven" => {
                for guard in &mut self.world().observations.guards {
                    guard.proven = false;
                }
            }
            "tick" => self.tick(),
            "ticks" => self.ticks(&words),
            "break" => self.fail_in = Some(number(words[0])),
            "pages" => {
                for page in std::mem::take(&mut self.world().pages) {
                    self.say(page);
                }
            }
            "plan-then-crash" => self.plan_then_crash(number(words[0])),
            "restart" => {
                let effect = self.world().restart();
                self.world().settle(effect);
                self.served();
            }
            "foreign" => {
                let share = BasisPoints::new(u16::try_from(number(words[0])).unwrap()).unwrap();
                self.world().flag_bp = share;
                let at_us = self.world().clock_us;
                self.world().append(RolloutEvent::ForeignEdit {
                    at_us,
                    found_bp: share,
                    who: "ivan".to_owned(),
                });
            }
            "stop" => self.emergency(&words),
            "guards" => self.guards(),
            _ => self.command(verb, &words),
        }
    }

    fn plan(&mut self, json: &str) {
        let value = serde_json::from_str(json).expect("a plan is JSON");
        match RolloutSpec::from_json(&value) {
            Ok(spec) => {
                for finding in spec.lint() {
                    self.say(format!("warning: {} {}", finding.pointer, finding.reason));
                }
                self.world = Some(World::new(spec));
            }
            Err(error) => {
                for violation in error.violations {
                    self.say(format!(
                        "refused: {} {}",
                        violation.pointer, violation.reason
                    ));
                }
            }
        }
    }

    fn ladder(&mut self, words: &[&str]) {
        let rungs = words[1..]
            .iter()
            .map(|rung| {
                let (quantile, threshold) = rung.split_once('=').unwrap();
                Rung {
                    quantile: quantile.parse().unwrap(),
                    threshold_ms: threshold.parse().unwrap(),
                    slow: Vec::new(),
                    first_requests: None,
                }
            })
            .collect();
        let metric = words[0].to_owned();
        for guard in &mut self.world().observations.guards {
            if guard.metric == metric {
                guard.measured = Measured::LatencyLadder { rungs };
                return;
            }
        }
    }

    fn source(&mut self, words: &[&str]) {
        let text = words[2..].join(" ");
        let status = match words[1] {
            "ok" => SourceStatus::Ok,
            "failed" => SourceStatus::Failed {
                query: "rate(errors[1m])".into(),
                response: text,
            },
            _ => SourceStatus::Untrustworthy { reason: text },
        };
        let metric = words[0].to_owned();
        let now = self.world().clock_us;
        for guard in &mut self.world().observations.guards {
            if guard.metric == metric {
                guard.source = status.clone();
                if status == SourceStatus::Ok {
                    guard.as_of_us = now;
                }
            }
        }
    }

    fn tick(&mut self) {
        let made = self.world().make_plan();
        let mut effect = self.world().submit(&made);
        while let Some(current) = effect {
            let fault = self.next_fault();
            let event = self.world().run(&current, fault);
            effect = self.world().feed(event);
        }
        self.report(&made);
    }

    /// `ticks 10 60s traffic 5 95`: several quiet rounds of waiting, traffic and planning; says the last only.
    fn ticks(&mut self, words: &[&str]) {
        let mut last = None;
        for _ in 0..number(words[0]) {
            let world = self.world();
            world.clock_us += duration(words[1]);
            world.traffic(number(words[3]), number(words[4]));
            last = Some(world.tick());
        }
        if let Some(made) = last {
            self.report(&made);
        }
    }

    fn plan_then_crash(&mut self, effects: u64) {
        let made = self.world().make_plan();
        self.report(&made);
        let mut effect = self.world().submit(&made);
        for _ in 0..effects {
            let Some(current) = effect else { break };
            let event = self.world().run(&current, Fault::None);
            effect = self.world().feed(event);
        }
        let next = effect.map_or("nothing".to_owned(), |e| format!("{e:?}"));
        let next = next.split('(').next().unwrap_or_default().to_owned();
        self.say(format!("killed before {next}"));
    }

    fn emergency(&mut self, words: &[&str]) {
        let (who, why) = (words[0].to_owned(), words[1..].join(" "));
        let world = self.world();
        let by = (who.as_str(), why.as_str());
        let asked = command::admit(
            &world.spec,
            &world.state,
            Command::EmergencyStop,
            by,
            world.clock_us,
        );
        if let Err(error) = asked {
            self.say(format!("refused: failed to {error}"));
            return;
        }
        let fault = self.next_fault();
        let world = self.world();
        let (step, share_bp) = (world.state.steps + 1, world.state.share_bp);
        let effect = world.feed(ExecutorEvent::EmergencyStop {
            who,
            why,
            step,
            share_bp,
        });
        let Some(first) = effect else { return };
        let event = world.run(&first, fault);
        let durable = fault == Fault::None;
        let served = world.served();
        let effect = world.feed(event);
        world.settle(effect);
        self.say(format!("{served} served at once, durable: {durable}"));
        self.served();
    }

    fn command(&mut self, verb: &str, words: &[&str]) {
        let stage = || usize::try_from(number(words[0])).unwrap();
        let (command, by) = match verb {
            "start" => (Command::Start, words),
            "pause" => (Command::Pause, words),
            "resume" => (Command::Resume, words),
            "abort" => (Command::Abort, words),
            "retry" => (
                Command::Retry {
                    redraws_units: false,
                },
                words,
            ),
            "approve" => (Command::Approve { stage: stage() }, &words[1..]),
            "settle" => {
                let share_bp = self.world().flag_bp;
                (Command::SettleForeignEdit { share_bp }, words)
            }
            other => panic!("no such script verb: {other}"),
        };
        let (who, why) = (
            by.first().copied().unwrap_or(""),
            by[by.len().min(1)..].join(" "),
        );
        if let Err(reason) = self.world().command(command, who, &why) {
            self.say(format!("refused: failed to {reason}"));
        }
    }

    fn report(&mut self, made: &Plan) {
        let world = self.world();
        let seconds = (world.clock_us - EPOCH) / SECOND;
        let served = world.served();
        let actions: Vec<&str> = made.actions.iter().map(name).collect();
        let text = format!(
            "{:02}:{:02}:{:02} {} | {} | {served} served",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            made.verdict,
            actions.join(", "),
        );
        self.say(text);
        self.say(format!("         {}", made.report.sentence));
        for note in &made.report.notes {
            self.say(format!("         note: {note}"));
        }
    }

    fn served(&mut self) {
        let world = self.world();
        let text = format!(
            "{} served, {} share changes written, {:?}",
            world.served(),
            world.writes.len(),
            world.executor
        );
        self.say(text);
    }

    fn guards(&mut self) {
        let Some(made) = self.world().last_plan.clone() else {
            return;
        };
        for guard in &made.report.guards {
            self.say(format!(
                "{}: {}, ln e {:.2} of {:.2}, {} of {} units against {} of {}{}",
                guard.metric,
                guard.verdict,
                guard.ln_e,
                guard.ln_threshold,
                guard.events.treatment,
                guard.units.treatment,
                guard.events.control,
                guard.units.control,
                guard
                    .remark
                    .as_ref()
                    .map(|r| format!("; {r}"))
                    .unwrap_or_default(),
            ));
        }
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::SetShare { .. } => "raise",
        Action::RollBack { .. } => "roll back",
        Action::Hold => "hold",
        Action::Complete { .. } => "complete",
        Action::AskApproval { .. } => "ask approval",
        Action::RequestSyntheticLoad => "ask for synthetic load",
        Action::Page { .. } => "page",
    }
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("not a number: {word:?}"))
}

/// `90s`, `5m`, `1h`, `-1h` in microseconds.
fn duration(word: &str) -> i64 {
    let (digits, unit) = word.split_at(word.len() - 1);
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        other => panic!("no such unit of time: {other:?}"),
    };
    digits.parse::<i64>().unwrap() * scale * SECOND
}
