//! TLS and credentials: what an operator has to set, and what the program logs if it is wrong.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use crate::support::{Broker, TestDir, all_events, job, quick_partner, worker_at};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key`.
fn issue(by: &Authority, host: &str, folder: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name = named(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, by).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A broker with a TLS listener and the certificates for it, and the URL of that listener.
fn tls_broker(dir: &TestDir, demands_certificate: bool) -> (Broker, String) {
    let (ours, other) = (authority("our CA"), authority("another CA"));
    let folder = dir.path("");
    fs::write(folder.join("ca.pem"), ours.pem()).unwrap();
    fs::write(folder.join("other-ca.pem"), other.pem()).unwrap();
    issue(&ours, "localhost", &folder, "server");
    issue(&ours, "worker", &folder, "client");
    issue(&other, "worker", &folder, "stranger");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| dir.path(name).display().to_string();
    let verify = if demands_certificate { "verify_peer" } else { "verify_none" };
    let broker = Broker::start_with(&format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\nssl_options.verify = {verify}\nssl_options.fail_if_no_peer_cert = {demands_certificate}\n",
        file("ca.pem"),
        file("server.pem"),
        file("server.key"),
    ));
    (broker, format!("amqps://guest:guest@localhost:{port}"))
}

#[test]
fn a_custom_ca_is_trusted_and_an_unknown_one_is_refused() {
    let dir = TestDir::new();
    let ((broker, url), partner) = (tls_broker(&dir, false), quick_partner(0));
    for (ca, says) in [
        ("other-ca.pem", "comes from a CA that isn't trusted here: set amqp.ca_file to that CA's certificate (PEM)"),
        ("", "amqp.ca_file"),
    ] {
        let program = worker_at(&url, &dir, &partner).set("amqp.ca_file", ca);
        // A machine without a list of trusted certificates would fail earlier.
        let mut worker = program.env("SSL_CERT_FILE", dir.path("other-ca.pem").to_str().unwrap()).start();
        worker.wait_for_output(says);
        worker.signal("TERM");
        worker.expect_exit(0).assert_no_output(&["connected to the broker"]);
    }
    let mut wrong_host = worker_at(&url.replace("localhost", "127.0.0.1"), &dir, &partner);
    wrong_host = wrong_host.set("amqp.ca_file", "ca.pem");
    let mut worker = wrong_host.start();
    worker.wait_for_output("the broker's certificate is for another host name");
    worker.signal("TERM");
    worker.expect_exit(0);

    // A changed file is read at the next connection.
    dir.write("trusted.pem", fs::read(dir.path("other-ca.pem")).unwrap());
    let mut worker = worker_at(&url, &dir, &partner).set("amqp.ca_file", "trusted.pem").start();
    worker.wait_for_output("comes from a CA that isn't trusted here");
    dir.write("trusted.pem", fs::read(dir.path("ca.pem")).unwrap());
    worker.wait_for_output_times("connected to the broker", 2);
    let connections = broker.rabbitmqctl(&["list_connections", "ssl", "client_properties"]);
    let ours = connections.lines().filter(|line| line.starts_with("true") && line.contains("plu-onboard.worker@"));
    assert_eq!(ours.count(), 2, "{connections}");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn the_client_certificate_is_sent_if_the_broker_asks_for_one() {
    let dir = TestDir::new();
    let ((broker, url), partner) = (tls_broker(&dir, true), quick_partner(0));
    let worker = || worker_at(&url, &dir, &partner).set("amqp.ca_file", "ca.pem");
    let with = |name: &str| {
        worker()
            .set("amqp.client_cert_file", &format!("{name}.pem"))
            .set("amqp.client_key_file", &format!("{name}.key"))
    };
    for (program, says) in [
        (worker(), "the broker asks for a client certificate: set amqp.client_cert_file and amqp.client_key_file"),
        (with("stranger"), "check amqp.client_cert_file, which it may not trust"),
    ] {
        let mut refused = program.start();
        refused.wait_for_output(says);
        refused.signal("TERM");
        refused.expect_exit(0).assert_no_output(&["connected to the broker"]);
    }
    let mut trusted = with("client").start();
    trusted.wait_for_output_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(trusted, &broker, 1);
}

#[test]
fn unusable_files_end_the_command_at_once() {
    let dir = TestDir::with("empty.pem", "");
    let partner = quick_partner(0);
    let folder = dir.path("");
    issue(&authority("A"), "a", &folder, "a");
    issue(&authority("B"), "b", &folder, "b");
    let url = "amqps://plu:s3cret@localhost:1";
    for (settings, says) in [
        (&[("amqp.ca_file", "none.pem")][..], "none.pem: the file holds no certificate (PEM)"),
        (&[("amqp.ca_file", "empty.pem")], "empty.pem: the file holds no certificate (PEM)"),
        (
            &[("amqp.ca_file", "a.pem"), ("amqp.client_cert_file", "a.pem"), ("amqp.client_key_file", "b.pem")],
            "b.pem: the file holds no private key (PEM)",
        ),
        (
            &[("amqp.ca_file", "a.pem"), ("amqp.client_cert_file", "a.pem"), ("amqp.client_key_file", "b.key")],
            "a.pem and b.key don't belong together",
        ),
        (&[("amqp.client_cert_file", "a.pem")], "amqp.client_key_file is empty, and amqp.client_cert_file isn't"),
        (&[("amqp.ca_file", "a.pem"), ("amqp.password_file", "none")], "the password file none can't be read"),
        (&[("amqp.ca_file", "a.pem"), ("amqp.password_file", "empty.pem")], "the password file empty.pem is empty"),
    ] {
        let program = worker_at(url, &dir, &partner);
        let program = settings.iter().fold(program, |program, (key, value)| program.set(key, value));
        let said = program.expect_exit(2);
        said.assert_output(&[says]);
        said.assert_no_output(&["s3cret", "BEGIN"]);
    }
}

#[test]
fn settings_replace_the_urls_credentials_and_a_new_password_is_read() {
    let (broker, partner, dir) = (Broker::start(), quick_partner(0), TestDir::with("password", "wr0ng\n"));
    broker.rabbitmqctl(&["add_user", "plu", "s3cret"]);
    broker.rabbitmqctl(&["set_permissions", "plu", ".*", ".*", ".*"]);
    let url = broker.url().replace("guest:guest", "other:nothing");
    let program = worker_at(&url, &dir, &partner).set("amqp.user", "plu").set("amqp.password_file", "password");
    let mut worker = program.start();
    worker.wait_for_output("check user, password and permissions");
    dir.write("password", " s3cret \n");
    worker.wait_for_output_times("connected to the broker", 2);
    let users = broker.rabbitmqctl(&["list_connections", "user", "timeout", "client_properties"]);
    let ours: Vec<&str> = users.lines().filter(|line| line.starts_with("plu\t20\t")).collect();
    assert_eq!(ours.len(), 2, "{users}");
    assert!(ours.iter().all(|line| line.contains("plu-onboard.worker@")), "{users}");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    worker.wait_until("a user", || partner.stats().model.created == 1);
    worker.signal("TERM");
    worker.expect_exit(0).assert_no_output(&["s3cret", "wr0ng", "nothing"]);
}
