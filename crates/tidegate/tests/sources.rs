//! A real Prometheus server between a shop's counters and a rollout, and what leaves the binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::wire::try_request;
use support::{Server, tidegate, until};

const ROLLOUT: &str = "/api/v1/projects/default/rollouts/r";
const SOURCE: &str = "/api/v1/projects/default/sources/shop";

/// Requests and failures of each variant, as a shop's processes count them.
type Counters = Arc<Mutex<BTreeMap<&'static str, (u64, u64)>>>;
/// How long requests of each variant took, as a cumulative histogram at [`BOUNDS`].
type Histograms = Arc<Mutex<BTreeMap<&'static str, [u64; 4]>>>;
const BOUNDS: [&str; 4] = ["0.1", "0.5", "2", "+Inf"];

/// A listener that answers every request with what `answer` makes of it.
fn listen(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever hung up gets no answer.
            let _ = serve(stream, &answer);
        }
    });
    address
}

fn serve(
    mut stream: TcpStream,
    answer: impl Fn(&str, &str) -> (u16, String),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, said) = answer(&first, &String::from_utf8_lossy(&body));
    let length = said.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: text/plain; version=0.0.4\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{said}"
    )
}

fn exposition(counters: &Counters) -> String {
    let mut text = String::from("# TYPE shop_requests_total counter\n");
    for (variant, (requests, failures)) in counters.lock().unwrap().iter() {
        let fine = requests - failures;
        writeln!(
            text,
            "shop_requests_total{{variant=\"{variant}\",code=\"200\"}} {fine}"
        )
        .unwrap();
        writeln!(
            text,
            "shop_requests_total{{variant=\"{variant}\",code=\"500\"}} {failures}"
        )
        .unwrap();
    }
    text
}

fn histogram_exposition(histograms: &Histograms) -> String {
    let mut text = String::from("# TYPE shop_seconds histogram\n");
    for (variant, counts) in histograms.lock().unwrap().iter() {
        for (bound, count) in BOUNDS.iter().zip(counts) {
            writeln!(
                text,
                "shop_seconds_bucket{{variant=\"{variant}\",le=\"{bound}\"}} {count}"
            )
            .unwrap();
        }
        let all = counts[3];
        writeln!(text, "shop_seconds_count{{variant=\"{variant}\"}} {all}").unwrap();
        writeln!(text, "shop_seconds_sum{{variant=\"{variant}\"}} {all}").unwrap();
    }
    text
}

/// The real server, from the package `prometheus`; killed when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn scraping(target: SocketAddr, folder: &Path) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n  - job_name: shop\n    static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // A port that was free a moment ago: the server cannot pick one itself.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("this test needs the server `prometheus` (Debian: apt-get install prometheus): {error}")
            });
        let server = Self { child, address };
        until("prometheus is ready", || {
            let answer = try_request(address, "GET", "/-/ready", &[], b"")?;
            (answer.status == 200).then_some(())
        });
        server
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve_allowing(folder: &Path, allowed: &[SocketAddr]) -> Server {
    let mut command = tidegate();
    command.arg("serve").arg("--data-dir").arg(folder);
    for address in allowed {
        command.arg("--allow-egress").arg(address.to_string());
    }
    Server::start(&mut command)
}

fn report(server: &Server) -> Value {
    server
        .admin("GET", &format!("{ROLLOUT}/report"), &[], &Value::Null)
        .json()
}

#[test]
fn a_real_prometheus_guards_a_rollout_and_its_outage_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let counters = Counters::default();
    let shop = {
        let counters = Arc::clone(&counters);
        listen(move |_, _| (200, exposition(&counters)))
    };
    let count = |variant, requests, failures| {
        let mut counters = counters.lock().unwrap();
        let known: &mut (u64, u64) = counters.entry(variant).or_default();
        *known = (known.0 + requests, known.1 + failures);
    };
    count("on", 100, 1);
    count("off", 1000, 10);
    let mut prometheus = Prometheus::scraping(shop, folder.path());
    let server = serve_allowing(folder.path(), &[prometheus.address]);
    let query = |more: &str| format!("sum(shop_requests_total{{variant=\"{{variant}}\"{more}}})");
    let source = json!({"type": "prometheus", "url": format!("http://{}", prometheus.address),
        "requests": query(""), "failures": query(",code=\"500\""),
        "every_seconds": 1, "timeout_seconds": 2, "delay_seconds": 1});
    assert_eq!(server.admin("PUT", SOURCE, &[], &source).status, 201);
    let dark = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    assert_eq!(server.create_flag("f", &dark).status, 201);
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "staleness_seconds": 5,
        "stages": [{"share_bp": 1000, "min_seconds": 3600}], "guards": [{"metric": "source/shop"}]});
    assert_eq!(server.admin("PUT", ROLLOUT, &[], &policy).status, 201);
    until("the first scrape is in, and the guard proven", || {
        let started = server.admin("POST", &format!("{ROLLOUT}/start"), &[], &Value::Null);
        (started.status == 200).then_some(())
    });

    let seen = until("evidence of the harm the shop counts", || {
        count("off", 900, 9);
        count("on", 100, 30);
        let report = report(&server);
        let guard = report["plan"]["report"]["guards"][0].clone();
        (guard["ln_e"].as_f64() > Some(5.0)).then_some(report)
    });
    let guard = &seen["plan"]["report"]["guards"][0];
    assert_eq!(
        seen["share_bp"], 1000,
        "it may hold, not roll back: {guard}"
    );
    assert_eq!(
        guard["basis"],
        "aggregated counters, presumes independent requests"
    );
    assert!(
        guard["remark"]
            .as_str()
            .unwrap()
            .contains("no A/A self-test"),
        "{guard}"
    );
    let standing = server.run(&["source", "self-test", "shop"]);
    let said = String::from_utf8_lossy(&standing.stdout).into_owned();
    assert!(
        said.contains("may hold, not roll back: no self-test has been run"),
        "{said}"
    );

    prometheus.stop();
    let seen = until("the outage is seen", || {
        let report = report(&server);
        (report["plan"]["verdict"] == "no_data").then_some(report)
    });
    let remark = seen["plan"]["report"]["guards"][0]["remark"]
        .as_str()
        .unwrap();
    assert!(
        remark.contains("sum(shop_requests_total") && remark.contains("the source failed"),
        "{remark}"
    );
    assert_eq!(
        (&seen["share_bp"], &seen["lifecycle"]),
        (&json!(1000), &json!("running"))
    );
}

/// A source that is a histogram, the flag `f`, and a rollout that it guards.
fn guard_by_histogram(server: &Server, prometheus: &Prometheus) {
    let source = json!({"type": "prometheus", "url": format!("http://{}", prometheus.address),
        "buckets": "sum by (le) (shop_seconds_bucket{variant=\"{variant}\"})",
        "every_seconds": 1, "timeout_seconds": 2, "delay_seconds": 1});
    assert_eq!(server.admin("PUT", SOURCE, &[], &source).status, 201);
    let dark = json!({"state": "ENABLED", "variants": {"on": true, "off": false},
        "defaultVariant": "off", "offVariant": "off"});
    assert_eq!(server.create_flag("f", &dark).status, 201);
    let policy = json!({"flag": "f", "treatment": "on", "control": "off", "staleness_seconds": 30,
        "stages": [{"share_bp": 1000, "min_seconds": 3600}], "guards": [{"metric": "source/shop"}]});
    assert_eq!(server.admin("PUT", ROLLOUT, &[], &policy).status, 201);
}

#[test]
fn a_real_histogram_shows_a_slow_tail_and_what_a_guard_on_it_would_see() {
    let folder = tempfile::tempdir().unwrap();
    let histograms = Histograms::default();
    let shop = {
        let histograms = Arc::clone(&histograms);
        listen(move |_, _| (200, histogram_exposition(&histograms)))
    };
    // So many requests, of which so many of a thousand are beyond each bound.
    let count = |variant, requests: u64, beyond: [u64; 3]| {
        let mut histograms = histograms.lock().unwrap();
        let counts = histograms.entry(variant).or_default();
        for (count, beyond) in counts.iter_mut().zip(beyond.into_iter().chain([0])) {
            *count += requests - requests * beyond / 1_000;
        }
    };
    const USUAL: [u64; 3] = [500, 50, 10];
    count("on", 1_000, USUAL);
    count("off", 5_000, USUAL);
    let prometheus = Prometheus::scraping(shop, folder.path());
    let server = serve_allowing(&folder.path().join("data"), &[prometheus.address]);
    guard_by_histogram(&server, &prometheus);
    until("the source answers, and the guard fires in shadow", || {
        let check = server
            .admin("GET", &format!("{ROLLOUT}/check"), &[], &Value::Null)
            .json();
        (check["guards"][0]["fired_on_injected_fault"] == true).then_some(())
    });
    until("what came between two answers gives a forecast", || {
        count("off", 200, USUAL);
        let check = server
            .admin("GET", &format!("{ROLLOUT}/check"), &[], &Value::Null)
            .json();
        check["guards"][0]["forecast"].is_object().then_some(())
    });
    let planned = server.run(&["rollout", "plan", "r"]);
    let said = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(
        said.contains("source/shop: fires under an injected fault; ")
            && !said.contains("too little traffic"),
        "{said}"
    );
    assert!(said.contains("may hold and not roll back"), "{said}");
    let started = server.admin("POST", &format!("{ROLLOUT}/start"), &[], &Value::Null);
    assert_eq!(started.status, 200, "{started}");
    let seen = until("the slow tail is seen", || {
        count("off", 2_000, USUAL);
        count("on", 1_000, [500, 50, 40]);
        let report = report(&server);
        let guard = report["plan"]["report"]["guards"][0].clone();
        (guard["ln_e"].as_f64() > Some(5.0)).then_some(guard)
    });
    let remark = seen["remark"].as_str().unwrap();
    assert!(
        remark.contains("at p99 (2)") && remark.contains("no A/A self-test"),
        "{seen}"
    );
    assert_eq!(report(&server)["share_bp"], 1000, "it holds");
}

#[test]
fn the_webhook_commands_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    let far = listen(move |_, body| {
        kept.lock().unwrap().push(body.to_owned());
        (200, String::new())
    });
    let server = serve_allowing(folder.path(), &[far]);
    let url = format!("http://{far}/hook/T0K3N");
    let run = |arguments: &[&str]| {
        let output = server.run(arguments);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.code(), said)
    };
    let (code, said) = run(&["webhook", "create", "chat", "--url", &url]);
    assert!(code == Some(0) && said.starts_with("whsec_"), "{said}");
    let (code, said) = run(&[
        "webhook",
        "create",
        "meta",
        "--url",
        "https://169.254.169.254/",
    ]);
    assert!(code == Some(1) && said.contains("metadata"), "{said}");
    assert_eq!(run(&["webhook", "test", "chat"]).0, Some(0));
    assert_eq!(server.create_flag("f", &support::plan_flag()).status, 201);
    until("both messages", || {
        (heard.lock().unwrap().len() == 2).then_some(())
    });
    let messages = heard.lock().unwrap().clone();
    assert!(messages[0].contains("webhook.test") && messages[1].contains("flag.create"));
    until("both are in the log", || {
        let (_, said) = run(&["webhook", "deliveries", "chat"]);
        (said.matches("delivered").count() == 2).then_some(())
    });
    let (_, said) = run(&["webhook", "list"]);
    assert!(said.contains("chat") && !said.contains("T0K3N"), "{said}");
    let (code, said) = run(&["webhook", "rotate", "chat", "--overlap-hours", "0"]);
    assert!(code == Some(0) && said.starts_with("whsec_"), "{said}");
    assert_eq!(
        run(&["webhook", "redeliver", "chat"]),
        (Some(0), "0 messages are back in line\n".to_owned())
    );
    assert_eq!(run(&["webhook", "delete", "chat"]).0, Some(0));
    assert_eq!(run(&["webhook", "test", "chat"]).0, Some(1));
}
