//! `GET /metrics`: what was counted, and what the parts say of themselves when asked.

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tidegate_lake::LogHealth;

use crate::access::Principal;
use crate::app::App;
use crate::events::slot::{Files, Standing};
use crate::live::LiveSet;
use crate::meters::{Page, table};

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of the process, and of the projects the caller belongs to.
pub(crate) async fn metrics(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
) -> Response {
    let mut page = Page::default();
    counted(&mut page, &app);
    otlp(&mut page, &app, &principal);
    projects(&mut page, &app, &principal);
    stops(&mut page, &app);
    rollouts(&mut page, &app, &principal);
    storage(&mut page, &app).await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], page.into_text()).into_response()
}

fn counted(page: &mut Page, app: &App) {
    page.family(&table::BUILD, [([env!("CARGO_PKG_VERSION")], 1)]);
    let meters = &app.operations.meters;
    let requests = meters.requests();
    page.family(
        &table::REQUESTS,
        requests.map(|(class, count)| ([class], count)),
    );
    page.family(&table::EVALUATIONS, meters.evaluations());
    let webhooks = app.delivery.meters().outcomes();
    page.family(
        &table::WEBHOOKS,
        webhooks.map(|(outcome, count)| ([outcome], count)),
    );
    page.single(&table::WEBHOOKS_WAITING, app.delivery.waiting_bytes());
    let outcomes = app.events.meters().outcomes();
    page.family(
        &table::EVENTS,
        outcomes.map(|(outcome, count)| ([outcome], count)),
    );
}

fn otlp(page: &mut Page, app: &App, principal: &Principal) {
    let meters = &app.otlp.meters;
    page.family(&table::OTLP_RECORDS, meters.records());
    page.single(&table::OTLP_REFUSED, meters.requests_refused());
    page.single(&table::OTLP_LEFT_OUT, meters.attributes_left_out());
    page.family(&table::OTLP_JOINED, meters.joins());
    let mut projects = app.otlp.projects();
    projects.retain(|(project, _)| principal.belongs_to(project));
    page.family(
        &table::OTLP_WAITING,
        projects
            .iter()
            .map(|(project, state)| ([project.as_str()], state.waiting.len())),
    );
    page.family(
        &table::OTLP_FORGOTTEN,
        projects
            .iter()
            .map(|(project, state)| ([project.as_str()], state.waiting.forgotten())),
    );
}

fn projects(page: &mut Page, app: &App, principal: &Principal) {
    let logs = app.events.health();
    let writable = logs
        .iter()
        .filter(|(project, _)| principal.belongs_to(project))
        .map(|(project, health)| {
            (
                [project.as_str()],
                u8::from(matches!(health, LogHealth::Writing)),
            )
        });
    page.family(&table::EVENT_LOG, writable);
    lakes(page, app, principal);
    let served: Vec<_> = app
        .live
        .keys()
        .into_iter()
        .filter(|key| principal.belongs_to(key))
        .filter_map(|key| app.live.project(&key))
        .map(|project| project.load())
        .collect();
    let now_us = app.clock.now_us();
    let stale_seconds = |set: &LiveSet| {
        set.stale_since_us
            .map_or(0, |since| now_us.saturating_sub(since).max(0) / 1_000_000)
    };
    page.family(
        &table::CONFIG_VERSION,
        served
            .iter()
            .map(|set| ([set.project.as_str()], set.config_version)),
    );
    page.family(
        &table::CONFIG_EPOCH,
        served.iter().map(|set| ([set.project.as_str()], set.epoch)),
    );
    page.family(
        &table::FLAGS,
        served
            .iter()
            .map(|set| ([set.project.as_str()], set.ruleset.len())),
    );
    page.family(
        &table::STALE,
        served
            .iter()
            .map(|set| ([set.project.as_str()], stale_seconds(set))),
    );
    page.family(
        &table::STREAMS,
        served.iter().map(|set| {
            let clients = app.streams.clients.report(&app.live, &set.project);
            ([set.project.as_str()], clients.len())
        }),
    );
}

/// One figure of how a lake stands.
type OfLake = fn(&Standing) -> u64;

fn lakes(page: &mut Page, app: &App, principal: &Principal) {
    let mut lakes = app.events.standings(app.clock.monotonic());
    lakes.retain(|lake| principal.belongs_to(&lake.project));
    let values: [(&table::Metric, OfLake); 8] = [
        (&table::LAKE_UP, |lake| {
            u64::from(lake.state == Files::Open && lake.problem.is_none())
        }),
        (&table::LAKE_FILES, |lake| {
            u64::try_from(lake.files).unwrap_or(u64::MAX)
        }),
        (&table::LAKE_ROWS, |lake| lake.rows),
        (&table::LAKE_BYTES, |lake| lake.bytes),
        (&table::LAKE_WATERMARK, |lake| lake.watermark),
        (&table::LAKE_UNFLUSHED, |lake| lake.unflushed_events),
        (&table::LAKE_LAG, |lake| lake.flush_lag_seconds),
        (&table::LAKE_DAMAGE, |lake| {
            u64::try_from(lake.damage.len()).unwrap_or(u64::MAX)
        }),
    ];
    for (metric, value) in values {
        let samples = lakes
            .iter()
            .map(|lake| ([lake.project.as_str()], value(lake)));
        page.family(metric, samples);
    }
    let disk = app.events.disk().ok();
    page.family(
        &table::DISK_USED,
        disk.map(|disk| ([], disk.used_percent())),
    );
}

fn stops(page: &mut Page, app: &App) {
    let file = app.stops.file_state();
    page.single(&table::PENDING_STOPS, app.stops.pending().len());
    page.single(&table::STOP_FILE, u8::from(file.usable));
    page.single(&table::STOP_FILE_LOST, file.lost_blocks.len());
}

fn rollouts(page: &mut Page, app: &App, principal: &Principal) {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for project in app.live.keys() {
        if !principal.belongs_to(&project) {
            continue;
        }
        for standing in app.rollouts.standings(&project) {
            *counts
                .entry((project.clone(), standing.lifecycle))
                .or_default() += 1;
        }
    }
    let samples = counts
        .iter()
        .map(|((project, lifecycle), count)| ([project.as_str(), lifecycle.as_str()], count));
    page.family(&table::ROLLOUTS, samples);
    let meters = app.rollouts.meters();
    page.single(&table::ROLLOUT_LOOKS, meters.looks());
    page.single(&table::ROLLOUT_PLANNING, meters.planning_seconds());
    page.single(&table::ROLLOUT_PLANS_KEPT, meters.plans_kept());
    let waits = meters.waits().map(|(within, count)| ([within], count));
    page.family(&table::ROLLOUT_WAITS, waits);
}

async fn storage(page: &mut Page, app: &App) {
    let health = async { app.store()?.health().await }.await;
    let is_writable = health.as_ref().is_ok_and(|health| health.is_writable);
    page.single(&table::STORAGE, u8::from(is_writable));
    let known = health.as_ref().ok();
    page.family(
        &table::STORAGE_BYTES,
        known.map(|health| ([], health.bytes)),
    );
    page.family(
        &table::AUDIT_HEAD,
        known.map(|health| ([], health.audit_head.sequence)),
    );
}
