//! Certificates from an authority that speaks ACME: a real one (Pebble), which looks up names and proofs as Let's Encrypt does.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use outspoke_testkit::Process;
use serde_json::json;
use tokio::process::Command;

use crate::support::Settings;
use crate::support::tls::Authority;

const NAME: &str = "chat.outspoke.example";

/// An authority and the DNS server by which it finds names, for as long as this lives.
struct Pebble {
    authority: Process,
    _names: Process,
    /// Of its directory.
    port: u16,
}

impl Pebble {
    /// One that looks for proofs at this port of 127.0.0.1, and whose own certificate is this authority's.
    async fn start(folder: &Path, proofs_at: u16, own: &Authority) -> Self {
        let (certificate, key) = own.issue(&["localhost", "127.0.0.1"]).write(folder, "pebble");
        let (port, management, dns, dns_management) = (free_port(), free_port(), free_port(), free_port());
        let configuration = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate, "privateKey": key, "httpPort": proofs_at, "tlsPort": free_port(),
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let file = folder.join("pebble.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names.args([
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        names.args([
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-management",
            &format!("127.0.0.1:{dns_management}"),
        ]);
        let mut names = Process::spawn(names);
        names.wait_for(|line| line.contains("Starting management").then_some(())).await;
        let mut authority = Command::new("pebble");
        authority.env("PEBBLE_VA_NOSLEEP", "1").arg("-config").arg(file);
        authority.args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        let mut authority = Process::spawn(authority);
        authority.wait_for(|line| line.contains("Listening on").then_some(())).await;
        Self { authority, _names: names, port }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn certificate_is_got_by_itself_shown_at_once_and_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (own, plain) = (Authority::new(), free_port());
    let mut pebble = Pebble::start(folder.path(), plain, &own).await;
    let port = pebble.port;
    let root = folder.path().join("root.pem");
    fs::write(&root, &own.pem).unwrap();
    let (certificate, key) = (folder.path().join("tls/chat.pem"), folder.path().join("tls/chat.key"));
    let settings = || {
        Settings::default()
            .set("tls.certificate", certificate.to_str().unwrap())
            .set("tls.key", key.to_str().unwrap())
            .set("tls.redirect_addr", &format!("127.0.0.1:{plain}"))
            .set("tls.acme_domains", NAME)
            .set("tls.acme_directory", &format!("https://localhost:{}/dir", port))
            .set("tls.acme_ca", root.to_str().unwrap())
            .set("tls.acme_terms_agreed", "true")
    };
    let mut server = settings().start().await;
    server.process().wait_for(|line| line.contains("has given a certificate").then_some(())).await;
    let chain = fs::read_to_string(&certificate).unwrap();
    // Its issuer, the second of the chain, is who vouches for it.
    let issuer = chain.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap().trim().to_owned();
    let trusting = Authority { pem: issuer, ..Authority::new() };
    let shown = trusting.client().named(NAME).dial(server.addr).await.unwrap().shown().unwrap().to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    drop(server);

    let orders = |process: &Process| process.log().iter().filter(|line| line.contains("Added order")).count();
    let before = orders(&pebble.authority);
    let mut server = settings().start().await;
    server.process().wait_for(|line| line.contains("the certificate is kept").then_some(())).await;
    let kept = trusting.client().named(NAME).dial(server.addr).await.unwrap().shown().unwrap().to_owned();
    assert_eq!(kept, shown);
    assert_eq!(orders(&pebble.authority), before, "a good certificate is not asked for again");
    assert!(pebble.authority.is_running());
}

/// Nobody answers at the directory: the server is there all the same, and says what is wrong.
#[tokio::test]
async fn authority_that_is_away_keeps_nobody_from_starting_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings = Settings::default()
        .set("tls.certificate", &file("chat.pem"))
        .set("tls.key", &file("chat.key"))
        .set("tls.redirect_addr", &format!("127.0.0.1:{}", free_port()))
        .set("tls.acme_domains", NAME)
        .set("tls.acme_directory", &format!("https://localhost:{}/dir", free_port()))
        .set("tls.acme_terms_agreed", "true");
    let mut server = settings.start().await;
    server.process().wait_for(|line| line.contains("no new certificate").then_some(())).await;
    let placeholder = Authority { pem: fs::read_to_string(file("chat.pem")).unwrap(), ..Authority::new() };
    // Whoever connects sees one that no client trusts; the server speaks TLS meanwhile.
    assert!(placeholder.client().named("other.example").dial(server.addr).await.is_err());
}
