//! TLS as the server has it by default: testssl.sh against the release binary.
//!
//! Every finding above LOW fails the suite. The certificate is made for the occasion, as one that is bought would be, by an
//! authority that testssl.sh is told of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::release::{self, Server};
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// One line of testssl.sh's report.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    finding: String,
}

/// What testssl.sh calls harmless, and what it says of itself (WARN).
const HARMLESS: [&str; 5] = ["OK", "INFO", "LOW", "WARN", "DEBUG"];
/// Fewer findings mean that it has not looked.
const FINDINGS_MIN: usize = 80;

/// Runs it.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let testssl = packages::testssl().ensure(ctx)?;
    let log = Log::new(ctx, "testssl")?;
    let folder = tempfile::tempdir()?;
    certificates(ctx, &log, folder.path())?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) =
        (format!("tls.certificate={}", file("server.pem")), format!("tls.key={}", file("server.key")));
    let server = Server::start(ctx, &release::build(ctx)?, &[&certificate, &key])?;
    let port = server.address.rsplit_once(':').context("an address has a port")?.1;
    let mut command = ctx.command(&testssl);
    command.args(["--quiet", "--warnings=off", "--color=0", "--ip=127.0.0.1", "--nodns=min"]);
    command.args([format!("--add-ca={}", file("ca.pem")), format!("--jsonfile={}", file("report.json"))]);
    // Its status counts findings of every kind; the report is what is judged.
    log.try_run(command.arg(format!("https://localhost:{port}/")), minutes(10))?;
    let report = fs::read_to_string(file("report.json")).context("testssl.sh wrote no report")?;
    judge(&serde_json::from_str::<Vec<Finding>>(&report)?, tally)
}

fn judge(findings: &[Finding], tally: &mut Tally) -> Result<Notes> {
    ensure!(findings.len() >= FINDINGS_MIN, "testssl.sh came to only {} findings", findings.len());
    let ids: BTreeSet<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
    for id in ["TLS1_3", "TLS1_2", "cert_trust", "cert_notAfter", "heartbleed", "BREACH"] {
        ensure!(ids.contains(id), "testssl.sh did not look at {id}");
    }
    let bad: Vec<String> = findings
        .iter()
        .filter(|finding| !HARMLESS.contains(&finding.severity.as_str()))
        .map(|finding| format!("{} {}: {}", finding.severity, finding.id, finding.finding))
        .collect();
    tally.add(Tally { passed: findings.len() - bad.len(), failed: bad.len(), ..Tally::default() });
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    Ok(Notes::new())
}

/// An authority and a certificate for localhost, by OpenSSL, which testssl.sh brings along.
fn certificates(ctx: &Context, log: &Log, folder: &Path) -> Result<()> {
    let openssl = |args: &str| {
        log.run(ctx.command("openssl").current_dir(folder).args(args.split_whitespace()), minutes(1))
            .map(drop)
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n\
         crlDistributionPoints=URI:http://localhost/revoked.crl\n",
    )?;
    openssl(&format!("req -x509 {key} -days 90 -subj /CN=authority -keyout ca.key -out ca.pem"))?;
    openssl(&format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 89 -extfile names -out server.pem",
    )
}
