//! The documented decision rules of others, re-implemented from their documentation and sources (2026), on the
//! service and seeds of the first table. Metric pipelines are taken as instantaneous, which is kind to them.

use tidegate_rollout::simulate::{Draw, Shape, simulate_harmed, simulate_healthy};

use crate::{ERROR_RATE, REQUESTS_PER_SECOND, SEED, plans, service, share};

/// How a rival's run ended.
struct Ended {
    caught: bool,
    seconds: f64,
    excess: f64,
}

/// A rule: plays one rollout at an error ratio.
type Rule = fn(&mut Service) -> Ended;

/// The service minute by minute.
struct Service {
    draw: Draw,
    ratio: f64,
    excess: f64,
}

/// Requests and failures of one arm in one minute.
#[derive(Clone, Copy, Default)]
struct Minute {
    requests: f64,
    failures: f64,
}

impl Service {
    #[expect(clippy::cast_precision_loss, reason = "requests of a minute")]
    fn arm(&mut self, share: f64, ratio: f64) -> Minute {
        let mean = 60.0 * REQUESTS_PER_SECOND * share;
        let failing = ERROR_RATE * ratio;
        let failures = self.draw.poisson(mean * failing) as f64;
        let good = self.draw.poisson(mean * (1.0 - failing)) as f64;
        Minute {
            requests: good + failures,
            failures,
        }
    }

    fn treatment(&mut self, share: f64) -> Minute {
        let minute = self.arm(share, self.ratio);
        self.excess += minute.failures * (1.0 - 1.0 / self.ratio);
        minute
    }

    fn end(&self, caught: bool, minutes: f64) -> Ended {
        Ended {
            caught,
            seconds: 60.0 * minutes,
            excess: self.excess,
        }
    }
}

/// README example: tick 1 m, threshold 10 tested at the start of the next tick, step 5 %, to 50 %, success >= 99 %.
fn flagger(service: &mut Service) -> Ended {
    let (mut weight, mut failed, mut minutes) = (0.05, 0, 0.0);
    loop {
        if failed >= 10 {
            return service.end(true, minutes);
        }
        let minute = service.treatment(weight);
        minutes += 1.0;
        let success = 1.0 - minute.failures / minute.requests;
        if !(0.99..=1.0).contains(&success) {
            failed += 1;
        } else if weight >= 0.499 {
            return service.end(false, minutes);
        } else {
            weight += 0.05;
        }
    }
}

/// Background example: 20/40/60/80 %, ten minutes each, success >= 95 % every five minutes, failureLimit 3 (the
/// fourth failure aborts), analysed from the first step.
fn argo(service: &mut Service) -> Ended {
    let (mut failed, mut minutes) = (0, 0.0);
    for weight in [0.2, 0.4, 0.6, 0.8] {
        for _ in 0..2 {
            let mut sum = Minute::default();
            for _ in 0..5 {
                let minute = service.treatment(weight);
                sum.requests += minute.requests;
                sum.failures += minute.failures;
            }
            minutes += 5.0;
            if 1.0 - sum.failures / sum.requests < 0.95 {
                failed += 1;
            }
            if failed > 3 {
                return service.end(true, minutes);
            }
        }
    }
    service.end(false, minutes)
}

/// NetflixACAJudge, direction increase: 60 one-minute points against an equal baseline, up to three hourly runs.
fn kayenta(service: &mut Service) -> Ended {
    for run in 1..=3 {
        let (mut canary, mut baseline) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            let (t, c) = (service.treatment(0.05), service.arm(0.05, 1.0));
            canary.push(t.failures / t.requests);
            baseline.push(c.failures / c.requests);
        }
        if is_high(&canary, &baseline) {
            return service.end(true, 60.0 * f64::from(run));
        }
    }
    service.end(false, 180.0)
}

/// Mann-Whitney 98 % interval of the location shift beyond a quarter of its estimate, and a mean ratio of at least one.
#[expect(clippy::cast_precision_loss, reason = "sixty points")]
fn is_high(canary: &[f64], baseline: &[f64]) -> bool {
    let mut shifts: Vec<f64> = canary
        .iter()
        .flat_map(|a| baseline.iter().map(move |b| a - b))
        .collect();
    shifts.sort_by(f64::total_cmp);
    let (n, m) = (canary.len() as f64, baseline.len() as f64);
    let spread = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let rank = n * m / 2.0 - 2.326_348 * spread - 0.5;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank below 3,600"
    )]
    let low = shifts
        .get(rank.max(0.0) as usize)
        .copied()
        .unwrap_or(f64::NEG_INFINITY);
    let middle = shifts.get(shifts.len() / 2).copied().unwrap_or_default();
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    low > 0.25 * middle.abs() && mean(canary) >= mean(baseline)
}

/// Safe rollouts: one-sided asymptotic confidence sequence, equal control, looked at every `every` minutes for a day.
fn growthbook(service: &mut Service, every: u32) -> Ended {
    let (mut t, mut c) = (Minute::default(), Minute::default());
    for minute in 1..=1_440_u32 {
        for (sum, new) in [
            (&mut t, service.treatment(0.05)),
            (&mut c, service.arm(0.05, 1.0)),
        ] {
            sum.requests += new.requests;
            sum.failures += new.failures;
        }
        if minute % every == 0 && lower_bound(t, c) > 0.0 {
            return service.end(true, f64::from(minute));
        }
    }
    service.end(false, 1_440.0)
}

fn lower_bound(t: Minute, c: Minute) -> f64 {
    let (p, q) = (t.failures / t.requests, c.failures / c.requests);
    let variance = p * (1.0 - p) / t.requests + q * (1.0 - q) / c.requests;
    let alpha = 0.05_f64;
    let l = -2.0 * (2.0 * alpha).ln();
    let rho2 = (l + (1.0 + l).ln()) / 5_000.0;
    let n = t.requests + c.requests;
    let half = variance.sqrt()
        * n.sqrt()
        * (2.0 * (n * rho2 + 1.0) / (n * n * rho2)
            * (1.0 + (n * rho2 + 1.0).sqrt() / (2.0 * alpha)).ln())
        .sqrt();
    p - q - half
}

fn growthbook_6h(service: &mut Service) -> Ended {
    growthbook(service, 360)
}

fn growthbook_1min(service: &mut Service) -> Ended {
    growthbook(service, 1)
}

pub(crate) fn table(histories: u64) {
    println!("## The same service under the documented rules of others\n");
    println!(
        "Cell: caught, mean seconds, mean excess failed requests until rollback or the end of its plan; {histories} histories each."
    );
    println!(
        "Flagger: README example. Argo Rollouts: background-analysis example, analysed from the first step. Kayenta: up to three hourly runs at 5 %."
    );
    println!(
        "GrowthBook: shipped one-sided bound at 5 % against an equal control for a day. Tidegate: 5 % against the rest for a day, alpha 1 %.\n"
    );
    println!("| rule | healthy: rolled back | 2x | 4x | 10x | 100x |");
    println!("|---|---|---|---|---|---|");
    let rules: [(&str, Rule); 5] = [
        ("Flagger", flagger),
        ("Argo Rollouts", argo),
        ("Kayenta", kayenta),
        ("GrowthBook, every 6 h", growthbook_6h),
        ("GrowthBook, every minute", growthbook_1min),
    ];
    for (name, rule) in rules {
        let cells: Vec<String> = [1.0, 2.0, 4.0, 10.0, 100.0]
            .map(|ratio| cell(rule, ratio, histories))
            .to_vec();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!("| **Tidegate** | {} |\n", ours(histories).join(" | "));
}

fn cell(rule: Rule, ratio: f64, histories: u64) -> String {
    let (mut caught, mut seconds, mut excess) = (0_u64, 0.0, 0.0);
    for index in 0..histories {
        let draw = Draw::new(SEED ^ (index << 20));
        let ended = rule(&mut Service {
            draw,
            ratio,
            excess: 0.0,
        });
        caught += u64::from(ended.caught);
        seconds += ended.seconds;
        excess += ended.excess;
    }
    describe(ratio, share(caught, histories), seconds, excess, histories)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
fn describe(ratio: f64, caught: f64, seconds: f64, excess: f64, histories: u64) -> String {
    let n = histories.max(1) as f64;
    if ratio == 1.0 {
        return format!("{:.1} %", 100.0 * caught);
    }
    format!(
        "{:.0} %, {:.0} s, {:.0}",
        100.0 * caught,
        seconds / n,
        excess / n
    )
}

fn ours(histories: u64) -> Vec<String> {
    let day = plans::constant(86_400);
    let plain = service(Shape::Plain);
    let healthy = simulate_healthy(&day, &plain, histories, SEED);
    let mut cells = vec![format!("{:.1} %", 100.0 * healthy.rate)];
    for ratio in [2.0, 4.0, 10.0, 100.0] {
        let row = simulate_harmed(&day, &plain, ratio, histories, SEED);
        let caught = share(row.caught, row.histories);
        cells.push(format!(
            "{:.0} %, {:.1} s, {:.1}",
            100.0 * caught,
            row.mean_seconds,
            row.mean_excess_failures
        ));
    }
    cells
}
