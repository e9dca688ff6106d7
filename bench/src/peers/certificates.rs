//! Certificates for peers that get theirs from files: P-256, as ours are. Must not know who uses them.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Writes `ca.crt`, and for `client` and `server` a `.crt`, a `.key`, and both as `.pem`; each is named `<name>.bench`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut root = CertificateParams::new([])?;
    // OpenSSL takes a certificate whose issuer has its own name for a root.
    root.distinguished_name.push(DnType::CommonName, "root.bench");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), root.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(root, key);
    for name in ["client", "server"] {
        let mut params = CertificateParams::new([format!("{name}.bench")])?;
        params.distinguished_name.push(DnType::CommonName, format!("{name}.bench"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let (certificate, key) = (params.signed_by(&key, &issuer)?.pem(), key.serialize_pem());
        for (ending, text) in
            [("crt", certificate.clone()), ("key", key.clone()), ("pem", format!("{certificate}{key}"))]
        {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
