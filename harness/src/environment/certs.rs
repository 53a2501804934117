//! The certificate authority of one run, and the certificates that it signs.
//!
//! Its key lives in memory only; the target's key is written beside its configuration.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, then the authority's.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "vmailspec: authority of one run");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// A server certificate for `hostname`.
    pub fn sign(&self, hostname: &str) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![hostname.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, hostname);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", certificate.pem(), self.certificate.pem());
        Ok(Identity {
            certificate: chain,
            key: key.serialize_pem(),
        })
    }

    /// The authority's own certificate, DER: what a client has to trust.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}
