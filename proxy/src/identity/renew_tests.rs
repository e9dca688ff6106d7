//! The renewal task against an operator that is a function, in time that is paused.

use super::*;
use crate::identity::{
    HostPort,
    fake::{Authority, Request, bundle},
    tls::Clock,
};
use rcgen::CertificateSigningRequestParams;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{CertificateSigningRequestDer, UnixTime};
use std::{cell::RefCell, rc::Rc};
use tokio::{task::LocalSet, time::Instant};

const HOUR: Duration = Duration::from_secs(3600);

/// Goes with the timer of the test.
#[derive(Debug)]
struct Paced {
    from: SystemTime,
    since: Instant,
}

impl TimeProvider for Paced {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.from + self.since.elapsed();
        Some(UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).ok()?))
    }
}

type Tamper = Box<dyn Fn(&mut Request, &mut CertifyResponse)>;

/// What the operator answers, and when it was asked.
struct Operator {
    authority: Authority,
    clock: Clock,
    asked: RefCell<Vec<Duration>>,
    since: Instant,
    /// While it says something, it refuses with that.
    away: RefCell<Option<&'static str>>,
    /// Changes what is certified, and then what is answered.
    tamper: Tamper,
}

impl Operator {
    fn new(tamper: impl Fn(&mut Request, &mut CertifyResponse) + 'static) -> Rc<Self> {
        let (authority, since) = (Authority::new(), Instant::now());
        let clock: Clock = Arc::new(Paced { from: authority.clock.now(), since });
        let (asked, away) = (RefCell::default(), RefCell::default());
        Rc::new(Self { authority, clock, asked, since, away, tamper: Box::new(tamper) })
    }

    fn now(&self) -> SystemTime {
        crate::identity::verify::system_time(self.clock.current_time().unwrap())
    }

    fn identity(&self) -> Arc<Identity> {
        Identity::with_clock(self.authority.domain.clone(), self.clock.clone())
    }

    async fn certify(&self, request: Vec<u8>) -> Result<CertifyResponse, CertifyError> {
        self.asked.borrow_mut().push(self.since.elapsed());
        if let Some(reason) = *self.away.borrow() {
            let address = HostPort { host: "operator".into(), port: 8080 };
            return Err(CertifyError::Refused(address, Box::new(tonic::Status::unavailable(reason))));
        }
        let csr = CertificateSigningRequestDer::from(request);
        let csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
        assert!(csr.params.subject_alt_names.is_empty(), "the token says whom the certificate is for");
        let mut wanted = self.authority.request("web");
        wanted.not_before = self.now() - HOUR;
        wanted.not_after = self.now() + 24 * HOUR;
        let mut unused = CertifyResponse { certificate_chain: vec![Vec::new()], trust_bundle: vec![Vec::new()] };
        (self.tamper)(&mut wanted, &mut unused);
        let chain = self.authority.sign(wanted, &csr.public_key);
        let mut response = CertifyResponse {
            certificate_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            trust_bundle: vec![self.authority.root().to_vec()],
        };
        (self.tamper)(&mut self.authority.request("web"), &mut response);
        Ok(response)
    }
}

/// Runs the task beside `test`.
async fn beside<T>(operator: &Rc<Operator>, identity: &Arc<Identity>, test: impl Future<Output = T>) -> T {
    let (operator, identity) = (operator.clone(), identity.clone());
    let local = LocalSet::new();
    local.spawn_local(async move {
        keep(&identity, async |request| operator.certify(request).await, || 0.5).await;
    });
    local.run_until(test).await
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_got_at_once_and_renewed_before_seven_tenths_of_its_life_each_with_a_key_of_its_own() {
    let operator = Operator::new(|_, _| {});
    let identity = operator.identity();
    beside(&operator, &identity, async {
        let mut progress = identity.progress();
        progress.wait_for(|progress| progress.certificates == 1).await.unwrap();
        let first = identity.credentials().unwrap();
        assert_eq!(first.id().as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        progress.wait_for(|progress| progress.certificates == 2).await.unwrap();
        let second = identity.credentials().unwrap();
        let key = |credentials: &Credentials| {
            let leaf = credentials.chain()[0].clone();
            webpki::EndEntityCert::try_from(&leaf).unwrap().subject_public_key_info()
        };
        assert_ne!(key(&first), key(&second));
    })
    .await;
    let asked = operator.asked.borrow();
    assert_eq!(asked[0], Duration::ZERO);
    assert_eq!(asked[1].as_secs() / 60, (16.2 * 60.0) as u64, "a backdated beginning does not count");
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_away_is_tried_for_ever_and_missed_only_once_the_certificate_is_over() {
    let operator = Operator::new(|_, _| {});
    let identity = operator.identity();
    beside(&operator, &identity, async {
        let mut progress = identity.progress();
        *operator.away.borrow_mut() = Some("starting");
        progress.wait_for(|progress| progress.failures == 3).await.unwrap();
        assert_eq!(identity.valid_credentials().unwrap_err(), "no certificate yet");
        let reason = "operator:8080 refuses a certificate: Unavailable: starting";
        assert_eq!(progress.borrow().failure.as_deref(), Some(reason));
        *operator.away.borrow_mut() = None;
        progress.wait_for(|progress| progress.certificates == 1).await.unwrap();
        assert_eq!(progress.borrow().failure, None);

        *operator.away.borrow_mut() = Some("gone");
        sleep(24 * HOUR - Duration::from_secs(30)).await;
        assert!(identity.valid_credentials().is_ok());
        sleep(2 * HOUR).await;
        assert_eq!(identity.valid_credentials().unwrap_err(), "the certificate has expired");
        *operator.away.borrow_mut() = None;
        let returned = Instant::now();
        progress.wait_for(|progress| progress.certificates == 2).await.unwrap();
        assert!(returned.elapsed() <= Duration::from_secs(10), "{:?}", returned.elapsed());
        assert!(identity.valid_credentials().is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_below_a_root_that_no_longer_signs_is_renewed_within_a_tenth_of_its_life() {
    let operator = Operator::new(|_, _| {});
    let identity = operator.identity();
    let next = operator.authority.successor();
    beside(&operator, &identity, async {
        let mut progress = identity.progress();
        progress.wait_for(|progress| progress.certificates == 1).await.unwrap();
        // Announced, it does not sign yet.
        identity.trust(bundle(&[&operator.authority, &next])).unwrap();
        sleep(HOUR).await;
        assert_eq!(progress.borrow().certificates, 1);
        identity.trust(bundle(&[&next, &operator.authority])).unwrap();
        let since = Instant::now();
        progress.wait_for(|progress| progress.certificates == 2).await.unwrap();
        assert_eq!(since.elapsed().as_secs() / 60, 72, "at half the tenth");
        assert_eq!(identity.credentials().unwrap().bundle().roots()[0], next.root(), "what was streamed stays");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_proves_nothing_any_more_is_replaced_within_seconds() {
    let operator = Operator::new(|_, _| {});
    let identity = operator.identity();
    let stranger = Authority::new();
    beside(&operator, &identity, async {
        let mut progress = identity.progress();
        progress.wait_for(|progress| progress.certificates == 1).await.unwrap();
        sleep(HOUR).await;
        identity.refused();
        let since = Instant::now();
        progress.wait_for(|progress| progress.certificates == 2).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 5, "by the operator's word");
        identity.refused();
        progress.wait_for(|progress| progress.certificates == 3).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 15, "the next one is given time");

        sleep(HOUR).await;
        *operator.away.borrow_mut() = Some("gone");
        identity.trust(bundle(&[&stranger])).unwrap();
        let since = Instant::now();
        progress.wait_for(|progress| progress.failures == 1).await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 5, "by the bundle");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_hold_together_is_not_used() {
    let stranger = Authority::new();
    let root = stranger.root().to_vec();
    let other = stranger.sign(stranger.request("web"), &rcgen::KeyPair::generate().unwrap());
    let cases: Vec<(Tamper, &str)> = vec![
        (
            Box::new(|_, r| r.certificate_chain.clear()),
            "certificate_chain: expected a certificate of the mesh, got none",
        ),
        (Box::new(|_, r| r.trust_bundle.clear()), "trust_bundle: must hold 1 to 64 certificates, holds 0"),
        (Box::new(|_, r| r.trust_bundle[0].truncate(9)), "trust_bundle[0]: must be an X.509 certificate"),
        (Box::new(move |_, r| r.trust_bundle = vec![root.clone()]), "leads to a root of the mesh and is valid now"),
        (Box::new(move |_, r| r.certificate_chain = other.iter().map(|c| c.to_vec()).collect()), "KeyMismatch"),
        (Box::new(|q, _| q.uris = vec!["spiffe://elsewhere/ns/shop/sa/web".into()]), "trust domain cluster.local"),
        (Box::new(|q, _| q.uris.clear()), "expected exactly one URI"),
        (Box::new(|q, _| q.not_after = q.not_before), "CertExpired"),
    ];
    for (tamper, expected) in cases {
        let operator = Operator::new(tamper);
        let identity = operator.identity();
        beside(&operator, &identity, async {
            let mut progress = identity.progress();
            let failed = progress.wait_for(|progress| progress.failures == 1).await.unwrap();
            let failure = failed.failure.clone().unwrap();
            assert!(failure.contains(expected), "expected {expected}: {failure}");
        })
        .await;
        assert!(identity.credentials().is_none(), "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_never_becomes_another_workload() {
    let operator = Operator::new(|wanted, _| wanted.uris = vec!["spiffe://cluster.local/ns/shop/sa/admin".into()]);
    let identity = operator.identity();
    let (key, mut wanted) = (rcgen::KeyPair::generate().unwrap(), operator.authority.request("web"));
    wanted.not_after = operator.now() + HOUR;
    let chain = operator.authority.sign(wanted, &key);
    let (own, clock) = (crate::identity::fake::private(&key), operator.clock.clone());
    let domain = operator.authority.domain.clone();
    identity.set(Credentials::new(domain, chain, own, operator.authority.bundle(), clock).unwrap()).unwrap();
    beside(&operator, &identity, async {
        let mut progress = identity.progress();
        let failed = progress.wait_for(|progress| progress.failures == 1).await.unwrap();
        let expected = "expected spiffe://cluster.local/ns/shop/sa/web, found spiffe://cluster.local/ns/shop/sa/admin";
        assert!(failed.failure.as_ref().unwrap().ends_with(expected), "{failed:?}");
    })
    .await;
    assert_eq!(identity.credentials().unwrap().id().service_account(), "web");
}

#[tokio::test]
async fn openssl_reads_the_request_as_a_key_with_the_proof_that_the_proxy_has_it_and_no_name() {
    let (authority, asked) = (Authority::new(), RefCell::new(Vec::new()));
    let identity = Identity::with_clock(authority.domain.clone(), authority.clock());
    let refuse = async |request: Vec<u8>| {
        *asked.borrow_mut() = request;
        let address = HostPort { host: "operator".into(), port: 8080 };
        Err(CertifyError::Refused(address, Box::new(tonic::Status::unavailable("no"))))
    };
    assert!(attempt(&identity, &refuse).await.is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request.der");
    std::fs::write(&file, &*asked.borrow()).unwrap();
    let mut openssl = std::process::Command::new("openssl");
    let output = openssl.args(["req", "-inform", "DER", "-noout", "-text", "-verify", "-in"]).arg(&file).output();
    let output = output.expect("openssl is installed");
    let [text, verdict] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(output.status.success() && verdict.contains("verify OK"), "{verdict}");
    assert!(text.contains("NIST CURVE: P-256") && text.contains("Signature Algorithm: ecdsa-with-SHA256"), "{text}");
    assert!(text.lines().any(|line| line.trim() == "Subject:") && !text.contains("Alternative Name"), "{text}");
}
