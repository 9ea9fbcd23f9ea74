//! The DevLake-like definition against Apache DevLake's own expected results.
//!
//! `TIDEGATE_DEVLAKE_E2E` names the folder `backend/plugins/dora/e2e` of a checkout of apache/incubator-devlake.
//! Its tables are read where they are and turned into rows of our log; the numbers must then be theirs.
//! Without it the same reading is done on a small table of our own in the same shape.
//!
//! What is held: the cycle time of every deployed pull request, to the minute; the previous successful deployment of
//! every deployment; the deployment that every incident is put down to.
//! What their tables have and our definition leaves out by design: pull requests that were never deployed (they have
//! no lead time here, and a partial cycle there).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tidegate_delivery::event::{
    CommitSeen, DeploymentSeen, EventBody, IncidentSeen, Outcome, PullRequestSeen, ServiceSeen,
};
use tidegate_delivery::metrics::{MetricReport, Query, measure};
use tidegate_delivery::{DeliveryEvent, Moment, Timeline, Window, definition};

const PROJECT: &str = "project1";
const REPOSITORY: &str = "code";

#[expect(
    clippy::disallowed_methods,
    reason = "acceptance data is named by the environment"
)]
fn e2e() -> Option<PathBuf> {
    std::env::var_os("TIDEGATE_DEVLAKE_E2E")
        .map(PathBuf::from)
        .filter(|path| path.exists())
}

/// A table as its rows; the files have no quoted cells.
struct Table {
    rows: Vec<BTreeMap<String, String>>,
}

impl Table {
    fn read(name: &str) -> Self {
        let text = match e2e() {
            Some(folder) => std::fs::read_to_string(folder.join(name)).expect("the table"),
            None => OWN
                .iter()
                .find(|(own, _)| *own == name)
                .expect("our own table")
                .1
                .to_owned(),
        };
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
        let rows = lines
            .map(|line| {
                let cells = line.split(',').map(|cell| cell.trim().to_owned());
                header
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(cells)
                    .collect()
            })
            .collect();
        Self { rows }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(Row)
    }
}

#[derive(Clone, Copy)]
struct Row<'t>(&'t BTreeMap<String, String>);

impl<'t> Row<'t> {
    fn get(self, name: &str) -> &'t str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn time(self, name: &str) -> Option<Moment> {
        let text = self.get(name);
        (!text.is_empty()).then(|| time(text))
    }
}

/// `2023-04-10T06:51:47.000+00:00`, or `2023-4-10 6:51:47` in UTC.
fn time(text: &str) -> Moment {
    if text.contains('T') {
        return Moment::parse(text).expect("a time");
    }
    let (day, hour) = text.split_once(' ').expect("a day and an hour");
    let padded = |text: &str, mark: char| {
        let parts: Vec<String> = text.split(mark).map(|part| format!("{part:0>2}")).collect();
        parts.join(&mark.to_string())
    };
    Moment::parse(&format!("{}T{}Z", padded(day, '-'), padded(hour, ':'))).expect("a time")
}

/// Their commits have names; ours are forty digits.
fn sha(name: &str) -> String {
    let mut digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(40);
    format!("{digits:0<40}")
}

#[derive(Default)]
struct Rows(Vec<DeliveryEvent>);

impl Rows {
    fn add(&mut self, at: Moment, body: EventBody) {
        self.0.push(DeliveryEvent {
            at,
            source: "devlake".to_owned(),
            id: self.0.len().to_string(),
            body,
        });
    }

    fn service(&mut self, service: &str) {
        let body = EventBody::Service(ServiceSeen {
            service: service.to_owned(),
            repository: REPOSITORY.to_owned(),
            resolve_commit_ids: true,
            squash_merges: false,
            team: None,
        });
        self.add(Moment::EARLIEST, body);
    }

    fn deployment(&mut self, row: Row<'_>, service: String) {
        let finished = row.time("finished_date").expect("a finish");
        let seen = DeploymentSeen {
            service,
            environment: row.get("environment").to_lowercase(),
            version: None,
            commit: Some(sha(row.get("commit_sha"))),
            deployment: Some(format!(
                "{}/{}",
                row.get("cicd_deployment_id"),
                row.get("id")
            )),
            pipeline: None,
            outcome: match row.get("result") {
                "SUCCESS" => Outcome::Succeeded,
                _ => Outcome::Failed,
            },
            started_at: row.time("started_date"),
            intent: None,
        };
        self.add(finished, EventBody::Deployment(seen));
    }

    fn commit(&mut self, name: &str, at: Moment, parents: Vec<String>) {
        let seen = CommitSeen {
            repository: REPOSITORY.to_owned(),
            commit: sha(name),
            parents,
            ..CommitSeen::default()
        };
        self.add(at, EventBody::Commit(seen));
    }
}

/// The rows of a table that belong to the project, by a column that names its part of it.
fn of_project(mapping: &Table, table: &str) -> BTreeSet<String> {
    mapping
        .rows()
        .filter(|row| row.get("project_name") == PROJECT && row.get("table") == table)
        .map(|row| row.get("row_id").to_owned())
        .collect()
}

fn report(rows: Rows) -> MetricReport {
    let timeline = Timeline::from_events(rows.0);
    let definition = definition::named("devlake-like").expect("it is built in");
    let window = Window::new(time("2000-1-1 0:0:0"), time("2100-1-1 0:0:0")).expect("a window");
    let query = Query {
        services: &[],
        team: None,
        environment: "production",
        stage_before: "staging",
        window,
        as_of: window.to(),
        definition: &definition,
        explain: true,
        seed: 0,
    };
    measure(&timeline, &query)
}

/// Their chains are by scope and repository; each is a service of ours.
fn chain(row: Row<'_>) -> String {
    format!("{}/{}", row.get("cicd_scope_id"), row.get("repo_url"))
}

#[test]
fn the_cycle_time_of_every_deployed_pull_request_is_theirs() {
    let deployments = Table::read("change_lead_time/cicd_deployment_commits.csv");
    let scopes = of_project(
        &Table::read("change_lead_time/project_mapping.csv"),
        "cicd_scopes",
    );
    let diffs = Table::read("change_lead_time/commits_diffs.csv");
    let pull_requests = Table::read("change_lead_time/pull_requests.csv");
    let commits = Table::read("change_lead_time/pull_request_commits.csv");
    let mut rows = Rows::default();
    let mut names = BTreeMap::new();
    for row in deployments
        .rows()
        .filter(|row| scopes.contains(row.get("cicd_scope_id")))
    {
        names.insert(row.get("id"), row.get("commit_sha"));
        rows.service(&chain(row));
        rows.deployment(row, chain(row));
    }
    for row in deployments
        .rows()
        .filter(|row| names.contains_key(row.get("id")))
    {
        // What a deployment brought is behind it in the graph, beside the commit deployed before.
        let before = names.get(row.get("prev_success_deployment_commit_id"));
        let brought = diffs
            .rows()
            .filter(|diff| diff.get("new_commit_sha") == row.get("commit_sha"))
            .map(|diff| diff.get("commit_sha"));
        let parents = before
            .copied()
            .into_iter()
            .chain(brought)
            .map(sha)
            .collect();
        rows.commit(
            row.get("commit_sha"),
            row.time("started_date").expect("a start"),
            parents,
        );
    }
    let mut numbers = BTreeMap::new();
    for (row, number) in pull_requests.rows().zip(1..) {
        numbers.insert(row.get("id"), number);
        let first = commits
            .rows()
            .filter(|commit| commit.get("pull_request_id") == row.get("id"))
            .filter_map(|commit| commit.time("commit_authored_date"))
            .min();
        let (opened, merged) = (row.time("created_date"), row.time("merged_date"));
        let seen = PullRequestSeen {
            repository: REPOSITORY.to_owned(),
            number,
            first_commit_at: first,
            opened_at: opened,
            merged_at: merged,
            merge_commit: Some(sha(row.get("merge_commit_sha"))),
            ..PullRequestSeen::default()
        };
        let at = merged.or(opened).expect("a time");
        rows.add(at, EventBody::PullRequest(seen));
        rows.commit(row.get("merge_commit_sha"), at, Vec::new());
    }
    let report = report(rows);
    let mut ours = BTreeMap::new();
    let lead_times = report
        .rows
        .iter()
        .filter(|row| row.metric == "change_lead_time");
    for contribution in lead_times.flat_map(|row| row.contributing.iter().flatten()) {
        let minutes = contribution.value.expect("a value") * 60.0;
        ours.insert(contribution.id.clone(), minutes.round());
    }
    let expected = Table::read("change_lead_time/project_pr_metrics.csv");
    let deployed = expected
        .rows()
        .filter(|row| !row.get("deployment_commit_id").is_empty());
    let theirs: BTreeMap<String, f64> = deployed
        .map(|row| {
            let number = numbers[row.get("id")];
            let minutes: f64 = row.get("pr_cycle_time").parse().expect("minutes");
            (format!("#{number}"), minutes)
        })
        .collect();
    assert!(!theirs.is_empty());
    assert_eq!(ours, theirs);
}

#[test]
fn the_previous_successful_deployment_is_theirs() {
    let folder = "connect_incident_to_deployment/prev_success_deployment_commit";
    let table = Table::read(&format!("{folder}/cicd_deployment_commits_after.csv"));
    let mut rows = Rows::default();
    let named = || {
        table
            .rows()
            .filter(|row| !row.get("environment").is_empty())
    };
    for row in named() {
        rows.deployment(row, chain(row));
    }
    let timeline = Timeline::from_events(rows.0);
    let mut compared = 0;
    for row in named().filter(|row| row.get("result") == "SUCCESS") {
        let series = timeline
            .series_of(&chain(row), &row.get("environment").to_lowercase())
            .expect("the chain");
        let name = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
        let chain: Vec<String> = series.succeeded().map(|d| name(&d.id)).collect();
        let place = chain
            .iter()
            .position(|id| id == row.get("id"))
            .expect("it is there");
        let before = place
            .checked_sub(1)
            .map_or("", |before| chain[before].as_str());
        assert_eq!(
            before,
            row.get("prev_success_deployment_commit_id"),
            "{}",
            row.get("id")
        );
        compared += 1;
    }
    assert!(compared > 1);
}

#[test]
fn the_deployment_an_incident_is_put_down_to_is_theirs() {
    let folder = "connect_incident_to_deployment";
    let mapping = Table::read(&format!("{folder}/raw_tables/project_mapping.csv"));
    let deployments = Table::read(&format!(
        "{folder}/prev_success_deployment_commit/cicd_deployment_commits_after.csv"
    ));
    let incidents = Table::read(&format!("{folder}/raw_tables/incidents.csv"));
    let scopes = of_project(&mapping, "cicd_scopes");
    let mut rows = Rows::default();
    for row in deployments
        .rows()
        .filter(|row| scopes.contains(row.get("cicd_scope_id")))
    {
        rows.deployment(row, PROJECT.to_owned());
    }
    for row in incidents.rows() {
        if !of_project(&mapping, row.get("table")).contains(row.get("scope_id")) {
            continue;
        }
        let at = row.time("created_date").expect("a time");
        let seen = IncidentSeen {
            incident: row.get("id").to_owned(),
            service: Some(PROJECT.to_owned()),
            detected_at: Some(at),
            ..IncidentSeen::default()
        };
        rows.add(at, EventBody::Incident(seen));
    }
    let report = report(rows);
    let fail_rate = report
        .rows
        .iter()
        .find(|row| row.metric == "change_fail_rate");
    let blamed = fail_rate
        .and_then(|row| row.contributing.as_ref())
        .expect("explained");
    let ours: BTreeSet<(String, String)> = incidents
        .rows()
        .filter_map(|incident| {
            let id = incident.get("id");
            let deployment = blamed.iter().find(|deployment| {
                deployment
                    .reasons
                    .contains(&format!("incident devlake:{id}"))
            })?;
            let (pipeline, _) = deployment.id.strip_prefix("devlake:")?.split_once('/')?;
            Some((id.to_owned(), pipeline.to_owned()))
        })
        .collect();
    let expected = Table::read(&format!(
        "{folder}/snapshot_tables/project_incident_deployment_relationships.csv"
    ));
    let theirs: BTreeSet<(String, String)> = expected
        .rows()
        .map(|row| {
            (
                row.get("id").to_owned(),
                row.get("deployment_id").to_owned(),
            )
        })
        .collect();
    assert!(!theirs.is_empty());
    assert_eq!(ours, theirs);
}

/// Tables of our own in the same shape.
const OWN: [(&str, &str); 10] = [
    (
        "change_lead_time/cicd_deployment_commits.csv",
        "id,result,started_date,cicd_deployment_id,cicd_scope_id,repo_url,environment,prev_success_deployment_commit_id,commit_sha,finished_date\n\
         a,SUCCESS,2024-05-01T10:00:00.000+00:00,p1,ci,R,PRODUCTION,,one,2024-05-01T10:05:00.000+00:00\n\
         b,SUCCESS,2024-05-02T10:00:00.000+00:00,p2,ci,R,PRODUCTION,a,two,2024-05-02T10:05:30.000+00:00\n",
    ),
    (
        "change_lead_time/project_mapping.csv",
        "project_name,table,row_id\nproject1,cicd_scopes,ci\nproject1,repos,r\n",
    ),
    (
        "change_lead_time/commits_diffs.csv",
        "old_commit_sha,new_commit_sha,commit_sha\none,two,merge1\n",
    ),
    (
        "change_lead_time/pull_requests.csv",
        "id,merge_commit_sha,created_date,merged_date\npr1,merge1,2024-5-1 12:00:00,2024-5-1 13:00:10\n",
    ),
    (
        "change_lead_time/pull_request_commits.csv",
        "commit_sha,pull_request_id,commit_authored_date\nc1,pr1,2024-5-1 11:00:00\n",
    ),
    (
        // An hour, an hour and ten seconds rounded up, twenty-one hours five minutes and twenty seconds rounded up.
        "change_lead_time/project_pr_metrics.csv",
        "id,deployment_commit_id,pr_cycle_time\npr1,b,1387\n",
    ),
    (
        "connect_incident_to_deployment/prev_success_deployment_commit/cicd_deployment_commits_after.csv",
        "id,result,started_date,cicd_deployment_id,cicd_scope_id,repo_url,environment,prev_success_deployment_commit_id,commit_sha,finished_date\n\
         1,SUCCESS,2024-05-01T10:00:00.000+00:00,p1,ci,R,PRODUCTION,,one,2024-05-01T10:05:00.000+00:00\n\
         2,FAILURE,2024-05-02T10:00:00.000+00:00,p2,ci,R,PRODUCTION,,two,2024-05-02T10:05:00.000+00:00\n\
         3,SUCCESS,2024-05-03T10:00:00.000+00:00,p3,ci,R,PRODUCTION,1,two,2024-05-03T10:05:00.000+00:00\n",
    ),
    (
        "connect_incident_to_deployment/raw_tables/project_mapping.csv",
        "project_name,table,row_id\nproject1,cicd_scopes,ci\nproject1,boards,b\nproject2,boards,c\n",
    ),
    (
        "connect_incident_to_deployment/raw_tables/incidents.csv",
        "id,created_date,table,scope_id\ni1,2024-05-02 12:00:00,boards,b\ni2,2024-09-03 12:00:00,boards,b\ni3,2024-05-02 12:00:00,boards,c\n",
    ),
    (
        "connect_incident_to_deployment/snapshot_tables/project_incident_deployment_relationships.csv",
        "id,project_name,deployment_id\ni1,project1,p1\ni2,project1,p3\n",
    ),
];
