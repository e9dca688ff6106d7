//! Tokens that the API server issued, checked by TokenReview. Must not trust anything in a token that it has not
//! confirmed.
//!
//! A token is not checked again for [`CACHED`]: a proxy that lost its connection comes again, and some more than
//! once. Refusals are kept as well, so that a proxy with a bad token cannot turn the operator against the API
//! server. Only digests of tokens are held.

use super::{CheckToken, CredentialError, ProvenWorkload};
use conduit_model::settings::TOKEN_AUDIENCE;
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// How long the API server's answer about a token is believed. A pod that was deleted gets a certificate for that long; it
/// could have got one just before.
const CACHED: Duration = Duration::from_secs(10);
/// Answers held at most; all are forgotten when there are more, which costs one check each.
const CAPACITY: usize = 4096;
/// Reviews under way at most; further ones wait. Whoever invents tokens costs the API server no more than that at a time.
const AT_ONCE: usize = 16;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

type Answer = Result<ProvenWorkload, CredentialError>;

/// Checks tokens with the API server.
pub struct TokenReviews {
    api: Api<TokenReview>,
    answers: Mutex<HashMap<[u8; 32], (Instant, Answer)>>,
    under_way: Semaphore,
}

impl TokenReviews {
    /// Checks tokens with the API server of `client`.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), answers: Mutex::default(), under_way: Semaphore::new(AT_ONCE) }
    }

    async fn review(&self, token: &str) -> Answer {
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]), token: Some(token.to_owned()) },
            ..TokenReview::default()
        };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| CredentialError::Unavailable(error.to_string()))?;
        workload(answer.status.unwrap_or_default())
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = answers.get(digest)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    fn remember(&self, digest: [u8; 32], answer: &Answer) {
        if matches!(answer, Err(CredentialError::Unavailable(_))) {
            return;
        }
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= CAPACITY {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() >= CAPACITY {
            answers.clear();
        }
        answers.insert(digest, (now + CACHED, answer.clone()));
    }
}

impl CheckToken for TokenReviews {
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Answer> {
        async move {
            let digest = Sha256::digest(token).into();
            if let Some(answer) = self.remembered(&digest) {
                return answer;
            }
            let _turn = self.under_way.acquire().await.expect("it is never closed");
            // Another stream may have come with the same token while this one waited.
            if let Some(answer) = self.remembered(&digest) {
                return answer;
            }
            let answer = self.review(token).await;
            self.remember(digest, &answer);
            answer
        }
        .boxed()
    }
}

/// What the API server's answer proves.
fn workload(status: TokenReviewStatus) -> Answer {
    let refused = |why: String| Err(CredentialError::Refused(why));
    if status.authenticated != Some(true) {
        return refused(status.error.unwrap_or_else(|| "the API server does not know it".to_owned()));
    }
    // An API server that knows no audiences answers without them, and has then not checked ours.
    if !status.audiences.is_some_and(|audiences| audiences.iter().any(|audience| audience == TOKEN_AUDIENCE)) {
        return refused(format!("it is not meant for the audience {TOKEN_AUDIENCE}"));
    }
    let user = status.user.unwrap_or_default();
    let Some((namespace, service_account)) = service_account(&user) else {
        return refused(format!("{:?} is no service account", user.username.unwrap_or_default()));
    };
    let (Some(pod), Some(pod_uid)) = (extra(&user, POD_NAME), extra(&user, POD_UID)) else {
        return refused("it is not bound to a pod".to_owned());
    };
    Ok(ProvenWorkload { namespace, service_account, pod, pod_uid: Some(pod_uid) })
}

fn service_account(user: &UserInfo) -> Option<(String, String)> {
    let (namespace, name) = user.username.as_deref()?.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    Some((namespace.to_owned(), name.to_owned()))
}

fn extra(user: &UserInfo, key: &str) -> Option<String> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn good() -> Value {
        json!({
            "authenticated": true,
            "audiences": [TOKEN_AUDIENCE],
            "user": {
                "username": "system:serviceaccount:shop:web",
                "extra": {POD_NAME: ["web-1"], POD_UID: ["1-2-3"]},
            },
        })
    }

    /// An API server that answers every review with `status`, and how often it was asked.
    fn reviews(code: u16, status: Value) -> (TokenReviews, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
            let body = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
                "status": status,
            });
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        (TokenReviews::new(Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn a_token_bound_to_a_pod_proves_its_workload() {
        let (reviews, _) = reviews(201, good());
        let workload = reviews.check("token").await.unwrap();
        assert_eq!((workload.namespace(), workload.service_account()), ("shop", "web"));
        assert_eq!((workload.pod(), workload.pod_uid()), ("web-1", Some("1-2-3")));
    }

    #[tokio::test]
    async fn a_token_that_proves_less_is_refused_with_the_reason() {
        let table = [
            (json!({"authenticated": false, "error": "token expired"}), "token expired"),
            (json!({}), "the API server does not know it"),
            (
                json!({"authenticated": true, "user": good()["user"]}),
                "it is not meant for the audience identity.conduit.io",
            ),
            (
                json!({"authenticated": true, "audiences": [TOKEN_AUDIENCE], "user": {"username": "admin"}}),
                "\"admin\" is no service account",
            ),
            (
                json!({
                    "authenticated": true, "audiences": [TOKEN_AUDIENCE],
                    "user": {"username": "system:serviceaccount:shop:web"},
                }),
                "it is not bound to a pod",
            ),
        ];
        for (status, why) in table {
            let (reviews, _) = reviews(201, status);
            assert_eq!(reviews.check("token").await, Err(CredentialError::Refused(why.to_owned())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_a_while_and_then_asked_for_again() {
        let (reviews, asked) = reviews(201, good());
        reviews.check("token").await.unwrap();
        tokio::time::advance(CACHED - Duration::from_millis(1)).await;
        reviews.check("token").await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        reviews.check("token").await.unwrap();
        reviews.check("another token").await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_refuses_nobody_and_is_asked_again() {
        let (reviews, asked) = reviews(500, json!({}));
        for _ in 0..2 {
            assert!(matches!(reviews.check("token").await, Err(CredentialError::Unavailable(_))));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_tokens_are_reviewed_at_once_than_allowed() {
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (Arc::clone(&open), Arc::clone(&most));
        let service = tower::service_fn(move |_: Request<Body>| {
            let (open, most) = (Arc::clone(&counted), Arc::clone(&highest));
            async move {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                open.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, std::convert::Infallible>(Response::builder().status(500).body(Body::empty()).unwrap())
            }
        });
        let reviews = TokenReviews::new(Client::new(service, "default"));
        let tokens: Vec<_> = (0..3 * AT_ONCE).map(|number| number.to_string()).collect();
        let answers = futures::future::join_all(tokens.iter().map(|token| reviews.check(token))).await;
        assert_eq!((answers.len(), most.load(Ordering::SeqCst)), (3 * AT_ONCE, AT_ONCE));
    }

    #[test]
    fn no_more_answers_are_held_than_there_is_room_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (reviews, _) = reviews(201, good());
        for number in 0..=CAPACITY {
            let digest = Sha256::digest(number.to_string()).into();
            reviews.remember(digest, &Err(CredentialError::Refused(String::new())));
        }
        assert_eq!(reviews.answers.lock().unwrap().len(), 1);
    }
}
