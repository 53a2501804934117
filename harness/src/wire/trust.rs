//! Which certificates a client takes for the target's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};

use crate::scenario::Handshake;

/// Which certificates a client takes for the target's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that one of these authorities signed, DER.
    Authorities(Vec<Vec<u8>>),
    /// Those that browsers take.
    Public,
    /// Any: who answers is not looked at.
    Any,
}

impl Trust {
    /// `public`, `any`, or a file with certificates of authorities, PEM; the error says what is
    /// wrong with the file.
    pub fn read(word: &str, beside: &Path) -> Result<Self, String> {
        match word {
            "public" => return Ok(Self::Public),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let path = beside.join(word);
        let shown = path.display();
        let certificates = CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| {
                format!("{shown}: {error}: expected certificates (PEM), or the word public or any")
            })?;
        if certificates.is_empty() {
            return Err(format!("{shown}: there is no certificate in it"));
        }
        let der = certificates.into_iter().map(|one| one.to_vec()).collect();
        Ok(Self::Authorities(der))
    }

    /// A TLS client that trusts so.
    pub(super) fn client(&self, how: Handshake) -> io::Result<Arc<ClientConfig>> {
        let versions: &[&'static SupportedProtocolVersion] = match how {
            Handshake::Version12 => &[&TLS12],
            Handshake::Version13 => &[&TLS13],
            Handshake::Usual | Handshake::Unnamed => rustls::DEFAULT_VERSIONS,
        };
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        match self {
            Self::Any => {}
            Self::Public => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Authorities(all) => {
                for one in all {
                    let one = CertificateDer::from(one.clone());
                    roots.add(one).map_err(io::Error::other)?;
                }
            }
        }
        let mut config = if *self == Self::Any {
            config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth()
        } else {
            config.with_root_certificates(roots).with_no_client_auth()
        };
        config.enable_sni = how != Handshake::Unnamed;
        Ok(Arc::new(config))
    }
}

/// Takes any certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
