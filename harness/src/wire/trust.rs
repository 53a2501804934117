//! Which certificates a client takes for the target's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
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
    /// These themselves, and those that one of them signed as an authority; DER.
    Authorities(Vec<Vec<u8>>),
    /// Those that browsers take.
    Public,
    /// Any: who answers is not looked at.
    Any,
}

impl Trust {
    /// `public`, `any`, or a file with certificates, PEM: the target's own or an authority's; the error says what is
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
        let mut config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(provider)?))
            .with_no_client_auth();
        config.enable_sni = how != Handshake::Unnamed;
        Ok(Arc::new(config))
    }

    /// Whether a certificate for `hostname`, the first of `chain` (DER), is taken; why not.
    pub fn takes(&self, chain: &[Vec<u8>], hostname: &str) -> Result<(), String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = self.verifier(provider).map_err(|error| error.to_string())?;
        let chain: Vec<_> = chain
            .iter()
            .map(|one| CertificateDer::from(one.as_slice()))
            .collect();
        let (first, more) = chain.split_first().ok_or("there is no certificate")?;
        let name = ServerName::try_from(hostname).map_err(|error| error.to_string())?;
        verifier
            .verify_server_cert(first, more, &name, &[], UnixTime::now())
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> io::Result<Verifier> {
        let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
        match self {
            Self::Any => {}
            Self::Public => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Authorities(all) => {
                named.clone_from(all);
                for one in all {
                    let one = CertificateDer::from(one.clone());
                    roots.add(one).map_err(io::Error::other)?;
                }
            }
        }
        let authorities = if *self == Self::Any {
            None
        } else {
            let (roots, provider) = (Arc::new(roots), Arc::clone(&provider));
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Some(built.map_err(io::Error::other)?)
        };
        Ok(Verifier {
            named,
            authorities,
            provider,
        })
    }
}

/// Decides as a `Trust` says. That the certificate's key signed the handshake is always looked at.
#[derive(Debug)]
struct Verifier {
    /// Taken whatever name is in them, and whoever signed them: the tutorial's certificate is
    /// signed by itself, and who names it has it at hand.
    named: Vec<Vec<u8>>,
    /// Who decides on others; nobody: all are taken.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.authorities {
            Some(authorities) if !self.named.iter().any(|one| one[..] == **certificate) => {
                authorities.verify_server_cert(certificate, chain, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rstest::rstest;

    use super::Trust;

    /// Signed by itself, as `openssl req -x509` makes it, for `a.test`; and one for `b.test` that
    /// it has signed.
    fn certificates() -> [Vec<u8>; 2] {
        let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&keys[0]).unwrap();
        let issuer = Issuer::new(params, &keys[0]);
        let signed = CertificateParams::new(vec!["b.test".to_owned()]).unwrap();
        let signed = signed.signed_by(&keys[1], &issuer).unwrap();
        [own.der().to_vec(), signed.der().to_vec()]
    }

    #[rstest]
    #[case::named_itself(0, "a.test", None)]
    #[case::named_itself_whatever_name_is_in_it(0, "mail.example", None)]
    #[case::signed_by_the_one_that_is_named(1, "b.test", None)]
    #[case::of_another_name(1, "a.test", Some("not valid for name \"a.test\""))]
    fn what_is_named_is_taken_and_what_it_signed_for_the_name(
        #[case] which: usize,
        #[case] hostname: &str,
        #[case] refused: Option<&str>,
    ) {
        let all = certificates();
        let trust = Trust::Authorities(vec![all[0].clone()]);
        let took = trust.takes(&all[which..=which], hostname);
        match refused {
            None => assert_eq!(took, Ok(())),
            Some(words) => assert!(took.clone().unwrap_err().contains(words), "{took:?}"),
        }
    }

    #[test]
    fn who_is_not_named_is_taken_where_any_is_and_nowhere_else() {
        let [named, _] = certificates();
        let [other, _] = certificates();
        let chain = [other];
        assert_eq!(Trust::Any.takes(&chain, "a.test"), Ok(()));
        assert!(
            Trust::Authorities(vec![named])
                .takes(&chain, "a.test")
                .is_err()
        );
        assert!(Trust::Public.takes(&chain, "a.test").is_err());
    }
}
