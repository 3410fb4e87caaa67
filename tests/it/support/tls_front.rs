//! TLS with HTTP/2 in front of the simulated partner, which itself serves plain HTTP. Its open connections can become
//! silent, as behind a firewall that lost its state, while new ones work.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::Partner;

pub(crate) struct TlsFront {
    url: Url,
    connections: Arc<AtomicUsize>,
    /// The connections before this one are silent.
    first_working: watch::Sender<usize>,
    _runtime: Runtime,
}

impl TlsFront {
    /// Serves `localhost` until it is dropped, in front of this partner. Writes the certificate of its authority to
    /// `ca_file`.
    pub(crate) fn start(partner: &Partner, ca_file: &Path) -> Self {
        let mut url = Url::parse(&partner.url()).unwrap();
        let target = url.port().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(ca_file)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        url.set_scheme("https").unwrap();
        url.set_host(Some("localhost")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (first_working, silence) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(forward(acceptor.clone(), client, target, number, silence.clone()));
            }
        });
        Self { url, connections, first_working, _runtime: runtime }
    }

    /// Returns the base URL for `--api-url`.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Returns the number of connections since the start.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Forwards nothing more on the open connections, and leaves them open.
    pub(crate) fn silence_open_connections(&self) {
        self.first_working.send_replace(self.connections());
    }
}

async fn forward(
    acceptor: TlsAcceptor,
    client: TcpStream,
    target: u16,
    number: usize,
    mut silence: watch::Receiver<usize>,
) -> io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
    let is_silent = async { drop(silence.wait_for(|first_working| number < *first_working).await) };
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut server) => copied.map(drop),
        () = is_silent => std::future::pending().await,
    }
}

fn server_config(ca_file: &Path) -> ServerConfig {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(ca_file, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let chain = vec![CertificateDer::clone(certificate.der())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
