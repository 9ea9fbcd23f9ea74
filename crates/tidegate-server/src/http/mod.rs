//! The HTTP edge: every route on one page, each with who may call it and how much it may send.

mod audit;
mod body;
mod changes;
pub(crate) mod connect;
pub mod cors;
mod delivery;
mod delivery_import;
mod delivery_rows;
pub(crate) mod dialect;
mod events;
mod health;
mod identity;
pub(crate) mod manifest;
mod metrics;
mod notices;
mod objects;
mod ofrep;
mod openapi;
pub(crate) mod otlp;
mod pages;
mod people;
pub(crate) mod problem;
mod query;
mod reports;
mod rollouts;
pub mod routes;
pub(crate) mod sent_at;
mod sign_in;
mod sources;
pub(crate) mod sse;
mod status;
mod stored_events;
mod tokens;
mod webhooks;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::Response;

use crate::access::Permission as P;
use crate::app::App;
use routes::{Access, Dialect, RouteRow, Routes, Verb};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Flag contexts and small commands.
const SMALL: usize = 256 * KIB;
/// One definition.
const DEFINITION: usize = MIB;
/// What one `apply` may send.
const MANY_DEFINITIONS: usize = 4 * MIB;
/// A batch of events, before decompression.
const EVENTS: usize = 16 * MIB;
/// Routes that take no body.
const NO_BODY: usize = 0;
/// Thousands of units by name.
const MANY_UNITS: usize = 8 * MIB;

/// The whole HTTP edge, and the declarations it is made of.
pub fn router(app: &App) -> (Router, Vec<RouteRow>) {
    let mut routes = Routes::new(app.clone());
    routes = public(routes);
    routes = people(routes);
    routes = evaluation(routes);
    routes = definitions(routes);
    routes = stored_event_routes(routes);
    routes = report_routes(routes);
    routes = rollout_routes(routes);
    routes = outward(routes);
    routes = administration(routes);
    routes = membership(routes);
    routes = otlp::routes(routes);
    routes = delivery::routes(routes);
    routes = crate::grpc::routes(routes);
    routes = crate::grpc::otlp::routes(routes);
    routes = sse::routes(routes);
    routes = manifest::routes(routes);
    let (router, rows) = routes.finish();
    (
        router
            .layer(from_fn_with_state(app.clone(), cors::layer))
            .layer(map_response_with_state(app.clone(), finish)),
        rows,
    )
}

const fn row(
    verb: Verb,
    path: &'static str,
    access: Access,
    body_limit: usize,
    summary: &'static str,
) -> RouteRow {
    RouteRow {
        verb,
        path,
        access,
        body_limit,
        dialect: Dialect::Problem,
        summary,
    }
}

const fn ofrep_row(verb: Verb, path: &'static str, summary: &'static str) -> RouteRow {
    let access = Access::Needs(P::Evaluate);
    RouteRow {
        verb,
        path,
        access,
        body_limit: SMALL,
        dialect: Dialect::Ofrep,
        summary,
    }
}

fn public(routes: Routes) -> Routes {
    let open = |path, summary| row(Verb::Get, path, Access::Public, NO_BODY, summary);
    routes
        .add(open("/", "The front page"), pages::front)
        .add(
            open("/healthz", "Whether the process answers"),
            health::healthz,
        )
        .add(
            open("/readyz", "Whether there are flags that decode"),
            health::readyz,
        )
        .add(
            open("/api/v1/openapi.json", "This document"),
            openapi::document,
        )
        .add(
            open(
                "/api/v1/audit/public-key",
                "The key that audit checkpoints are signed with",
            ),
            audit::public_key,
        )
}

fn people(routes: Routes) -> Routes {
    const FORM: usize = 4 * KIB;
    let form = |path, summary| row(Verb::Post, path, Access::Public, FORM, summary);
    let page = row(
        Verb::Get,
        "/sign-in",
        Access::Public,
        NO_BODY,
        "The page to sign in at",
    );
    let change = row(
        Verb::Get,
        "/sign-in/password",
        Access::Public,
        NO_BODY,
        "The page to change a password at",
    );
    let leave = row(
        Verb::Post,
        "/sign-out",
        Access::Public,
        NO_BODY,
        "End the session",
    );
    routes
        .add(page, sign_in::page)
        .add(
            form("/sign-in", "Sign in with a password"),
            sign_in::sign_in,
        )
        .add(
            form("/sign-in/link", "Set a password by a one-time link"),
            sign_in::follow_link,
        )
        .add(change, sign_in::password_page)
        .add(
            form("/sign-in/password", "Change a password by the one before"),
            sign_in::change_password,
        )
        .add(leave, sign_in::sign_out)
}

fn evaluation(routes: Routes) -> Routes {
    const ONE: &str = "/ofrep/v1/evaluate/flags/{key}";
    const ALL: &str = "/ofrep/v1/evaluate/flags";
    let ingest = Access::Needs(P::Ingest);
    routes
        .add(
            ofrep_row(Verb::Post, ONE, "Evaluate one flag"),
            ofrep::evaluate_one,
        )
        .add(
            ofrep_row(Verb::Post, ALL, "Evaluate all flags"),
            ofrep::evaluate_all,
        )
        .add(
            row(Verb::Post, "/api/v1/events", ingest, EVENTS, "Send events"),
            events::ingest,
        )
}

fn definitions(routes: Routes) -> Routes {
    const MANY: &str = "/api/v1/projects/{project}/{collection}";
    const ONE: &str = "/api/v1/projects/{project}/{collection}/{key}";
    const HISTORY: &str = "/api/v1/projects/{project}/{collection}/{key}/history";
    const KILL: &str = "/api/v1/projects/{project}/flags/{key}/kill";
    const REVIVE: &str = "/api/v1/projects/{project}/flags/{key}/revive";
    const CHANGES: &str = "/api/v1/projects/{project}/changes";
    const CHECK: &str = "/api/v1/projects/{project}/changes/check";
    const EXPLAIN: &str = "/api/v1/projects/{project}/flags/{key}/evaluate";
    let read = |path, summary| {
        row(
            Verb::Get,
            path,
            Access::Needs(P::ConfigRead),
            NO_BODY,
            summary,
        )
    };
    let write =
        |verb, path, limit, summary| row(verb, path, Access::Needs(P::ConfigWrite), limit, summary);
    let act = |path, permission, summary| {
        row(Verb::Post, path, Access::Needs(permission), SMALL, summary)
    };
    routes
        .add(read(MANY, "List a kind of object"), objects::list)
        .add(
            write(Verb::Post, MANY, DEFINITION, "Create an object"),
            objects::create,
        )
        .add(read(ONE, "Read an object"), objects::get)
        .add(
            write(Verb::Put, ONE, DEFINITION, "Create or change an object"),
            objects::put,
        )
        .add(
            write(Verb::Delete, ONE, NO_BODY, "Delete an object"),
            objects::delete,
        )
        .add(
            read(HISTORY, "Read an object's revisions"),
            objects::history,
        )
        .add(
            act(KILL, P::Stop, "Serve the off variant to everybody at once"),
            objects::kill,
        )
        .add(
            write(
                Verb::Post,
                CHANGES,
                MANY_DEFINITIONS,
                "Change many objects, or none",
            ),
            changes::apply,
        )
        .add(
            row(
                Verb::Post,
                CHECK,
                Access::Needs(P::ConfigRead),
                MANY_DEFINITIONS,
                "Say what changes would do, and all that is wrong with them",
            ),
            changes::check,
        )
        .add(act(REVIVE, P::Raise, "Lift a kill"), objects::revive)
        .add(
            act(EXPLAIN, P::Sync, "Evaluate a flag and say why"),
            objects::explain,
        )
}

fn stored_event_routes(routes: Routes) -> Routes {
    const TAIL: &str = "/api/v1/projects/{project}/events";
    const VERIFY: &str = "/api/v1/projects/{project}/events/verify";
    const ERASE: &str = "/api/v1/projects/{project}/events/erase";
    const MERGE: &str = "/api/v1/projects/{project}/events/merge";
    const UNMERGE: &str = "/api/v1/projects/{project}/events/unmerge";
    const LIVE: &str = "/api/v1/projects/{project}/flags/{key}/live";
    let look = |path, permission, summary| {
        row(Verb::Get, path, Access::Needs(permission), NO_BODY, summary)
    };
    let manage = |path, limit, summary| {
        let access = Access::Needs(P::AccessManage);
        row(Verb::Post, path, access, limit, summary)
    };
    let identify = |path, summary| {
        let access = Access::Needs(P::Identify);
        row(Verb::Post, path, access, MANY_UNITS, summary)
    };
    routes
        .add(
            look(TAIL, P::ConfigRead, "Read the newest events"),
            stored_events::tail,
        )
        .add(
            look(
                LIVE,
                P::ConfigRead,
                "What a flag's variants do, counted live",
            ),
            stored_events::live,
        )
        .add(
            manage(
                VERIFY,
                NO_BODY,
                "Read all stored events again and check them",
            ),
            stored_events::verify,
        )
        .add(
            look(VERIFY, P::Observe, "How the newest verification stands"),
            stored_events::verification,
        )
        .add(identify(MERGE, "Make units one person"), identity::merge)
        .add(
            identify(UNMERGE, "Make merged units persons again"),
            identity::unmerge,
        )
        .add(
            manage(ERASE, SMALL, "Erase a unit from all stored events"),
            stored_events::erase,
        )
}

fn report_routes(routes: Routes) -> Routes {
    const METRIC: &str = "/api/v1/projects/{project}/metrics/{key}/report";
    const JOURNEY: &str = "/api/v1/projects/{project}/journeys/{key}/report";
    const USAGE: &str = "/api/v1/projects/{project}/reports/usage";
    const RETENTION: &str = "/api/v1/projects/{project}/reports/retention";
    let read = |path, summary| {
        row(
            Verb::Get,
            path,
            Access::Needs(P::ConfigRead),
            NO_BODY,
            summary,
        )
    };
    routes
        .add(
            read(METRIC, "A metric by the variants of a flag"),
            reports::metric,
        )
        .add(
            read(JOURNEY, "A journey: steps, drop-off and times"),
            reports::journey,
        )
        .add(
            read(USAGE, "How many units use what, by period"),
            reports::usage,
        )
        .add(
            read(RETENTION, "Who came back in which later period"),
            reports::retention,
        )
}

fn rollout_routes(routes: Routes) -> Routes {
    const START: &str = "/api/v1/projects/{project}/rollouts/{key}/start";
    const RESUME: &str = "/api/v1/projects/{project}/rollouts/{key}/resume";
    const RETRY: &str = "/api/v1/projects/{project}/rollouts/{key}/retry";
    const APPROVE: &str = "/api/v1/projects/{project}/rollouts/{key}/approve";
    const PROTECT: &str = "/api/v1/projects/{project}/rollouts/{key}/{action}";
    const REPORT: &str = "/api/v1/projects/{project}/rollouts/{key}/report";
    const REPLAY: &str = "/api/v1/projects/{project}/rollouts/{key}/replay";
    const CHECK: &str = "/api/v1/projects/{project}/rollouts/{key}/check";
    let act = |path, permission, summary| {
        row(Verb::Post, path, Access::Needs(permission), SMALL, summary)
    };
    let read = |path, summary| {
        row(
            Verb::Get,
            path,
            Access::Needs(P::ConfigRead),
            NO_BODY,
            summary,
        )
    };
    routes
        .add(act(START, P::Raise, "Start a rollout"), rollouts::start)
        .add(
            act(RESUME, P::Raise, "Let a paused rollout go on"),
            rollouts::resume,
        )
        .add(
            act(RETRY, P::Raise, "Begin an ended rollout anew"),
            rollouts::retry,
        )
        .add(
            act(APPROVE, P::Approve, "Approve a stage of a rollout"),
            rollouts::approve,
        )
        .add(
            act(PROTECT, P::Stop, "Pause, abort or stop a rollout"),
            rollouts::protect,
        )
        .add(
            read(REPORT, "Say how a rollout stands, and why"),
            rollouts::report,
        )
        .add(
            read(
                CHECK,
                "Whether a rollout may start, and what its guards would see",
            ),
            rollouts::check,
        )
        .add(
            read(REPLAY, "Make every kept plan again and compare"),
            rollouts::replay,
        )
}

fn outward(routes: Routes) -> Routes {
    const SELF_TEST: &str = "/api/v1/projects/{project}/sources/{key}/self-test";
    const ENDPOINTS: &str = "/api/v1/projects/{project}/webhook-endpoints";
    const ENDPOINT: &str = "/api/v1/projects/{project}/webhook-endpoints/{key}";
    const ROTATE: &str = "/api/v1/projects/{project}/webhook-endpoints/{key}/rotate";
    const TEST: &str = "/api/v1/projects/{project}/webhook-endpoints/{key}/test";
    const DELIVERIES: &str = "/api/v1/projects/{project}/webhook-endpoints/{key}/deliveries";
    const REDELIVER: &str = "/api/v1/projects/{project}/webhook-endpoints/{key}/redeliver";
    let read = |path, summary| {
        row(
            Verb::Get,
            path,
            Access::Needs(P::ConfigRead),
            NO_BODY,
            summary,
        )
    };
    let write = |path, summary| {
        row(
            Verb::Post,
            path,
            Access::Needs(P::ConfigWrite),
            SMALL,
            summary,
        )
    };
    let manage = |verb, path, limit, summary| {
        row(verb, path, Access::Needs(P::AccessManage), limit, summary)
    };
    let create = "Make a webhook endpoint; its secret is shown once";
    let rotate = "Give a webhook endpoint a new key, shown once";
    routes
        .add(
            read(SELF_TEST, "How a source stands with its self-test"),
            sources::standing,
        )
        .add(
            write(SELF_TEST, "Begin the self-test of a source"),
            sources::begin,
        )
        .add(read(ENDPOINTS, "List webhook endpoints"), notices::list)
        .add(
            manage(Verb::Post, ENDPOINTS, SMALL, create),
            notices::create,
        )
        .add(
            manage(Verb::Delete, ENDPOINT, NO_BODY, "Remove a webhook endpoint"),
            notices::delete,
        )
        .add(manage(Verb::Post, ROTATE, SMALL, rotate), notices::rotate)
        .add(
            manage(Verb::Post, TEST, SMALL, "Send a test message"),
            notices::test,
        )
        .add(
            read(DELIVERIES, "What became of the last deliveries"),
            notices::deliveries,
        )
        .add(
            manage(
                Verb::Post,
                REDELIVER,
                SMALL,
                "Put dead letters back in line",
            ),
            notices::redeliver,
        )
}

fn administration(routes: Routes) -> Routes {
    const TOKENS: &str = "/api/v1/projects/{project}/tokens";
    const TOKEN: &str = "/api/v1/projects/{project}/tokens/{selector}";
    const AUDIT: &str = "/api/v1/projects/{project}/audit";
    let manage = |verb, path, limit, summary| {
        row(verb, path, Access::Needs(P::AccessManage), limit, summary)
    };
    let look = |path, permission, summary| {
        row(Verb::Get, path, Access::Needs(permission), NO_BODY, summary)
    };
    routes
        .add(
            manage(Verb::Get, TOKENS, NO_BODY, "List tokens"),
            tokens::list,
        )
        .add(
            manage(Verb::Post, TOKENS, SMALL, "Mint a token, shown once"),
            tokens::create,
        )
        .add(
            manage(Verb::Delete, TOKEN, NO_BODY, "Disable a token"),
            tokens::disable,
        )
        .add(
            look(AUDIT, P::AuditRead, "Read the audit trail"),
            audit::list,
        )
        .add(
            look("/status", P::Observe, "What is served, how fresh, to whom"),
            status::status,
        )
        .add(
            look(
                "/metrics",
                P::Observe,
                "The same in numbers, for Prometheus",
            ),
            metrics::metrics,
        )
}

fn membership(routes: Routes) -> Routes {
    const PEOPLE: &str = "/api/v1/projects/{project}/people";
    const PERSON: &str = "/api/v1/projects/{project}/people/{person}";
    const ROLES: &str = "/api/v1/projects/{project}/people/{person}/roles";
    const ACTION: &str = "/api/v1/projects/{project}/people/{person}/{action}";
    let manage = |verb, path, limit, summary| {
        row(verb, path, Access::Needs(P::AccessManage), limit, summary)
    };
    routes
        .add(
            manage(Verb::Get, PEOPLE, NO_BODY, "List people and their roles"),
            people::list,
        )
        .add(
            manage(
                Verb::Post,
                PEOPLE,
                SMALL,
                "Add a person; the link is shown once",
            ),
            people::add,
        )
        .add(
            manage(Verb::Put, ROLES, SMALL, "Replace a person's roles"),
            people::set_roles,
        )
        .add(
            manage(
                Verb::Post,
                ACTION,
                NO_BODY,
                "Reset a person's password, disable or enable them",
            ),
            people::act,
        )
        .add(
            manage(Verb::Delete, PERSON, NO_BODY, "Forget a person"),
            people::forget,
        )
}

/// What every answer goes through: it is counted, and nothing is sniffed, framed or referred.
async fn finish(State(app): State<App>, method: Method, mut response: Response) -> Response {
    app.operations.meters.answered(response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if method != Method::GET || !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
