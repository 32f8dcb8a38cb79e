//! TLS: whom to trust, and who we are. Files are read at each connecting, so that certificates can be rotated.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::options::OpenError;
use super::url::TlsFiles;

/// How connections are secured.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    /// The system's roots, read once; `None` where a file takes their place.
    system: Option<Arc<RootCertStore>>,
}

impl Tls {
    /// Reads the system's roots where they are needed, and every file once to see that it is fit.
    pub(super) fn new(files: TlsFiles) -> Result<Self, OpenError> {
        let system = files.ca.is_none().then(|| {
            let mut roots = RootCertStore::empty();
            // A root that cannot be read vouches for nobody; the others still do.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        });
        let tls = Self { files, system };
        tls.config()?;
        Ok(tls)
    }

    /// Secures a connection to `host`.
    pub(super) async fn secure(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = self.config().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no name that a certificate can have"))?;
        let secured = TlsConnector::from(Arc::new(config)).connect(name, stream);
        secured.await.map_err(|error| format!("TLS: {error}"))
    }

    fn config(&self) -> Result<ClientConfig, OpenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = match (&self.files.ca, &self.system) {
            (Some(ca), _) => roots(ca)?,
            (None, Some(system)) => Arc::clone(system),
            (None, None) => Arc::new(RootCertStore::empty()),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(Path::new("the TLS library"), error))?
            .with_root_certificates(roots);
        let Some((cert, key)) = &self.files.identity else {
            return Ok(config.with_no_client_auth());
        };
        let key_text = read(key)?;
        let secret = PrivateKeyDer::from_pem_slice(&key_text).map_err(|error| unfit(key, error))?;
        config
            .with_client_auth_cert(certificates(cert)?, secret)
            .map_err(|error| unfit(cert, error))
    }
}

fn roots(ca: &Path) -> Result<Arc<RootCertStore>, OpenError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unfit(ca, error))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unfit(path, "no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unfit(path, error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|error| unfit(path, error))
}

fn unfit(path: &Path, detail: impl ToString) -> OpenError {
    OpenError::File {
        path: path.to_owned(),
        detail: detail.to_string(),
    }
}
