//! HTTP sources over TLS: the real program, and a server with a certificate for `localhost`.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::support::{
    peer::Peer,
    server::{Server, data},
};

/// Signed by itself, and good until 2120: `openssl ca -selfsign`, with `subjectAltName = DNS:localhost`.
const CERTIFICATE: &str = include_str!("support/localhost.pem");

/// Speaks TLS for the peer.
async fn tls_before(peer: &Peer) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, peer) = (listener.local_addr().unwrap(), peer.address);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                copy_bidirectional(&mut client, &mut TcpStream::connect(peer).await?).await
            });
        }
    });
    address
}

/// The program, which trusts the certificates in this file and no others.
fn start(folder: &Path, config: &str, trusted: &str) -> Server {
    let log = fs::File::create(folder.join("log")).unwrap();
    fs::write(folder.join("m.toml"), config).unwrap();
    fs::write(folder.join("trusted.pem"), trusted).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meanwhile"));
    command.args(["--listen", "127.0.0.1:0", "--data", "data", "--config", "m.toml"]).current_dir(folder);
    command.env("SSL_CERT_FILE", "trusted.pem").env_remove("SSL_CERT_DIR");
    Server::spawn_with_log(&mut command, "trace", Stdio::from(log))
}

fn source(name: &str, url: &str) -> String {
    format!("[sources.{name}]\ntype = \"http\"\nurl = \"{url}\"\n[joins.{name}]\nparts.a.source = \"{name}\"\n")
}

/// The value of the only part, or the message of its error.
async fn joined(server: &Server, name: &str) -> Result<Value, String> {
    let document = format!("{{ joinedData(join: \"{name}\") {{ parts {{ value error {{ message }} }} }} }}");
    let answer = data(server.url(), &document, json!({})).await;
    let part = &answer["joinedData"]["parts"][0];
    part["error"]["message"].as_str().map_or_else(|| Ok(part["value"].clone()), |message| Err(message.to_owned()))
}

#[tokio::test]
async fn an_answer_over_tls_comes_only_from_who_has_the_hosts_certificate() {
    let peer = Peer::start().await;
    let port = tls_before(&peer).await.port();
    let config = [
        source("right", &format!("https://localhost:{port}/json")),
        source("misnamed", &format!("https://127.0.0.1:{port}/json")),
        source("downgraded", &format!("https://localhost:{port}/location?to={}", peer.url("/json"))),
        source("plain", &format!("http://localhost:{port}/json")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &config.concat(), CERTIFICATE);
    assert_eq!(joined(&server, "right").await.unwrap(), json!({ "b": 1.5, "a": [null] }));
    let error = joined(&server, "misnamed").await.unwrap_err();
    assert!(error.contains("cannot connect") && error.contains("certificate"), "{error}");
    assert!(!error.contains("127.0.0.1"), "{error}");
    let asked = peer.requests().len();
    let error = joined(&server, "downgraded").await.unwrap_err();
    assert!(error.contains("redirects from https to http"), "{error}");
    assert_eq!(peer.requests().len(), asked + 1);
    let error = joined(&server, "plain").await.unwrap_err();
    assert!(error.contains("lost the connection"), "{error}");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("localhost") && !log.contains(&port.to_string()), "{log}");
}

#[tokio::test]
async fn without_certificates_nobody_is_trusted_and_all_else_works() {
    let peer = Peer::start().await;
    let url = format!("https://localhost:{}/json", tls_before(&peer).await.port());
    let folder = tempfile::tempdir().unwrap();
    let config = [source("unknown", &url), source("health", "/health/ready")];
    let server = start(folder.path(), &config.concat(), "");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("source `unknown` asks over TLS") && log.contains("ca-certificates"), "{log}");
    assert!(!log.contains("source `health`"), "{log}");
    assert_eq!(joined(&server, "health").await.unwrap(), json!({ "status": "ready" }));
    let error = joined(&server, "unknown").await.unwrap_err();
    assert!(error.contains("cannot connect") && error.contains("certificate"), "{error}");
    assert!(!error.contains("localhost"), "{error}");
    assert_eq!(peer.requests().len(), 0);
}
