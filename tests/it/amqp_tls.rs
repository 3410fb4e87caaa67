//! Encrypted connections and credentials: what an operator has to set, and what the program says where it is wrong.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use crate::support::{Broker, Place, all_events, job, quick_partner, worker_at};

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
fn tls_broker(place: &Place, demands_certificate: bool) -> (Broker, String) {
    let (ours, other) = (authority("our CA"), authority("another CA"));
    let folder = place.path("");
    fs::write(folder.join("ca.pem"), ours.pem()).unwrap();
    fs::write(folder.join("other-ca.pem"), other.pem()).unwrap();
    issue(&ours, "localhost", &folder, "server");
    issue(&ours, "worker", &folder, "client");
    issue(&other, "worker", &folder, "stranger");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| place.path(name).display().to_string();
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
fn a_custom_ca_is_trusted_and_an_unknown_one_is_refused_with_the_remedy() {
    let place = Place::new();
    let ((broker, url), partner) = (tls_broker(&place, false), quick_partner(0));
    for (ca, says) in [
        ("other-ca.pem", "comes from a CA that isn't trusted here: name that CA's certificate (PEM) in amqp.ca_file"),
        ("", "amqp.ca_file"),
    ] {
        let program = worker_at(&url, &place, &partner).set("amqp.ca_file", ca);
        // Without a list of trusted certificates on the machine, it can't begin at all.
        let mut worker = program.env("SSL_CERT_FILE", place.path("other-ca.pem").to_str().unwrap()).start();
        worker.says(says);
        worker.signal("TERM");
        worker.ends_with(0).did_not_say(&["connected to the broker"]);
    }
    let mut wrong_host = worker_at(&url.replace("localhost", "127.0.0.1"), &place, &partner);
    wrong_host = wrong_host.set("amqp.ca_file", "ca.pem");
    let mut worker = wrong_host.start();
    worker.says("its certificate is for another host name");
    worker.signal("TERM");
    worker.ends_with(0);

    // A file that is renewed counts from the next connection on.
    place.write("trusted.pem", fs::read(place.path("other-ca.pem")).unwrap());
    let mut worker = worker_at(&url, &place, &partner).set("amqp.ca_file", "trusted.pem").start();
    worker.says("comes from a CA that isn't trusted here");
    place.write("trusted.pem", fs::read(place.path("ca.pem")).unwrap());
    worker.says_times("connected to the broker", 2);
    let connections = broker.rabbitmqctl(&["list_connections", "ssl", "client_properties"]);
    let ours = connections.lines().filter(|line| line.starts_with("true") && line.contains("plu-onboard.worker@"));
    assert_eq!(ours.count(), 2, "{connections}");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(worker, &broker, 1);
}

#[test]
fn a_client_certificate_is_shown_where_the_broker_demands_one() {
    let place = Place::new();
    let ((broker, url), partner) = (tls_broker(&place, true), quick_partner(0));
    let worker = || worker_at(&url, &place, &partner).set("amqp.ca_file", "ca.pem");
    let with = |name: &str| {
        worker()
            .set("amqp.client_cert_file", &format!("{name}.pem"))
            .set("amqp.client_key_file", &format!("{name}.key"))
    };
    for (program, says) in [
        (worker(), "it asks for a client certificate: set amqp.client_cert_file and amqp.client_key_file"),
        (with("stranger"), "check amqp.client_cert_file, which it may not trust"),
    ] {
        let mut refused = program.start();
        refused.says(says);
        refused.signal("TERM");
        refused.ends_with(0).did_not_say(&["connected to the broker"]);
    }
    let mut trusted = with("client").start();
    trusted.says_times("connected to the broker", 2);
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    all_events(trusted, &broker, 1);
}

#[test]
fn files_that_cannot_be_used_end_the_command_at_once() {
    let place = Place::with("empty.pem", "");
    let partner = quick_partner(0);
    let folder = place.path("");
    issue(&authority("A"), "a", &folder, "a");
    issue(&authority("B"), "b", &folder, "b");
    let url = "amqps://plu:s3cret@localhost:1";
    for (settings, says) in [
        (&[("amqp.ca_file", "none.pem")][..], "none.pem: there is no certificate (PEM) in it"),
        (&[("amqp.ca_file", "empty.pem")], "empty.pem: there is no certificate (PEM) in it"),
        (
            &[("amqp.ca_file", "a.pem"), ("amqp.client_cert_file", "a.pem"), ("amqp.client_key_file", "b.pem")],
            "b.pem: there is no private key (PEM) in it",
        ),
        (
            &[("amqp.ca_file", "a.pem"), ("amqp.client_cert_file", "a.pem"), ("amqp.client_key_file", "b.key")],
            "a.pem and b.key don't belong together",
        ),
        (&[("amqp.client_cert_file", "a.pem")], "amqp.client_key_file is empty, and amqp.client_cert_file isn't"),
        (&[("amqp.ca_file", "a.pem"), ("amqp.password_file", "none")], "the password file none can't be read"),
        (&[("amqp.ca_file", "a.pem"), ("amqp.password_file", "empty.pem")], "the password file empty.pem is empty"),
    ] {
        let program = worker_at(url, &place, &partner);
        let program = settings.iter().fold(program, |program, (key, value)| program.set(key, value));
        let said = program.ends_with(2);
        said.said(&[says]);
        said.did_not_say(&["s3cret", "BEGIN"]);
    }
}

#[test]
fn credentials_come_from_the_url_or_the_settings_and_a_new_password_needs_no_restart() {
    let (broker, partner, place) = (Broker::start(), quick_partner(0), Place::with("password", "wr0ng\n"));
    broker.rabbitmqctl(&["add_user", "plu", "s3cret"]);
    broker.rabbitmqctl(&["set_permissions", "plu", ".*", ".*", ".*"]);
    let url = broker.url().replace("guest:guest", "nobody:nothing");
    let program = worker_at(&url, &place, &partner).set("amqp.user", "plu").set("amqp.password_file", "password");
    let mut worker = program.start();
    worker.says("check user, password and permissions");
    place.write("password", " s3cret \n");
    worker.says_times("connected to the broker", 2);
    let users = broker.rabbitmqctl(&["list_connections", "user", "timeout", "client_properties"]);
    let ours: Vec<&str> = users.lines().filter(|line| line.starts_with("plu\t20\t")).collect();
    assert_eq!(ours.len(), 2, "{users}");
    assert!(ours.iter().all(|line| line.contains("plu-onboard.worker@")), "{users}");
    broker.publish("plu.onboarding", "bulk", &[job(1)]);
    worker.until("its user", || partner.stats().model.created == 1);
    worker.signal("TERM");
    worker.ends_with(0).did_not_say(&["s3cret", "wr0ng", "nothing"]);
}
