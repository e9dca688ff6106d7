//! Who gets a certificate from the mesh, and for whom.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh,
    attack::{AUDIENCE, attacker},
    eventually,
};
use kube::api::DeleteParams;
use serde_json::Value;
use std::time::{Duration, SystemTime};

#[test]
fn a_certificate_is_for_the_service_account_of_the_token_whatever_is_asked_for() {
    Case::run("certify", Mesh::Enabled, async |case| {
        case.service_accounts(&["thief", "owner"]).await?;
        case.apply(&attacker("thief", "thief", "[sleep, 1h]")).await?;
        case.apply(&attacker("owner", "owner", "[sleep, 1h]")).await?;
        let thief = case.pod_ready("thief").await?;
        let owner = case.pod_ready("owner").await?;
        let identity = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", case.namespace);
        let (own, other) = (identity("thief"), identity("owner"));
        let token = case.token("thief", AUDIENCE, Some(&thief)).await?;
        let with = |token: &str, wishes: &[&str]| {
            let arguments = [&["certify", "--token", token], wishes].concat();
            let (case, arguments) = (&case, arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
            async move { case.attack("thief", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await }
        };

        for wishes in [&[][..], &["--uri", &own], &["--key", "p384"], &["--key", "ed25519"]] {
            given(&with(&token, wishes).await?, &own).with_context(|| format!("{wishes:?}"))?;
        }
        // Whoever has the token of another pod is that pod, and nobody else.
        let stolen = case.token("owner", AUDIENCE, Some(&owner)).await?;
        given(&with(&stolen, &[]).await?, &other).context("the token alone says for whom")?;
        for (token, wishes) in [
            (&stolen, &["--uri", &own][..]),
            (&token, &["--uri", &other]),
            (&token, &["--uri", &own, "--uri", &other]),
            (&token, &["--uri", "spiffe://elsewhere.example/ns/a/sa/b"]),
            (&token, &["--dns", "conduit-operator.conduit.svc"]),
            (&token, &["--common-name", "owner"]),
            (&token, &["--authority"]),
            (&token, &["--key", "rsa2048"]),
            (&token, &["--forged"]),
        ] {
            let line = with(token, wishes).await?;
            refused(&line, "InvalidArgument").with_context(|| format!("{wishes:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn only_a_fresh_token_of_a_living_pod_for_this_audience_is_taken() {
    Case::run("tokens", Mesh::Enabled, async |case| {
        case.service_accounts(&["thief"]).await?;
        case.apply(&attacker("thief", "thief", "[sleep, 1h]")).await?;
        case.apply(&attacker("gone", "thief", "[sleep, 1h]")).await?;
        let thief = case.pod_ready("thief").await?;
        let gone = case.pod_ready("gone").await?;
        let good = case.token("thief", AUDIENCE, Some(&thief)).await?;
        let of_another_audience = case.token("thief", "https://kubernetes.default.svc", Some(&thief)).await?;
        let of_no_pod = case.token("thief", AUDIENCE, None).await?;
        let outlived = case.token("thief", AUDIENCE, Some(&gone)).await?;
        case.pods().delete("gone", &DeleteParams::default().grace_period(0)).await?;
        eventually("the pod is gone", Duration::from_secs(20), || async {
            ensure!(case.pods().get_opt("gone").await?.is_none(), "it is not");
            Ok(())
        })
        .await?;

        let certify = async |token: &str| case.attack("thief", &["certify", "--token", token]).await;
        let identity = format!("spiffe://cluster.local/ns/{}/sa/thief", case.namespace);
        given(&certify(&good).await?, &identity)?;
        refused(&case.attack("thief", &["certify"]).await?, "Unauthenticated").context("no token")?;
        for (what, token) in [
            ("no token at all", "let-me-in"),
            ("another audience", &of_another_audience),
            ("no pod", &of_no_pod),
            ("a pod that is gone", &outlived),
            ("another signature", &forged(&good)?),
        ] {
            refused(&certify(token).await?, "Unauthenticated").context(what)?;
        }
        Ok(())
    });
}

/// The same token with another signature.
fn forged(token: &str) -> Result<String> {
    let (signed, signature) = token.rsplit_once('.').context("a token has three parts")?;
    Ok(format!("{signed}.{}", signature.chars().rev().collect::<String>()))
}

/// That a certificate was given, for this identity alone, with what leads to the root, for a day at most.
fn given(line: &Value, identity: &str) -> Result<()> {
    ensure!(line["ok"] == true, "refused: {line}");
    let own = &line["chain"][0];
    ensure!(own["uris"] == serde_json::json!([identity]) && own["names"] == 1, "it is for {own}, not for {identity}");
    ensure!(line["chain"].as_array().is_some_and(|chain| chain.len() == 2), "no issuer beside it: {line}");
    ensure!(line["roots"].as_u64().is_some_and(|roots| roots >= 1), "no roots beside it: {line}");
    let left = own["not_after"].as_u64().context("no end")? as f64 - seconds(SystemTime::now())?;
    ensure!((0.0..=24.0 * 3600.0).contains(&left), "it is valid for {left} s more");
    Ok(())
}

fn seconds(time: SystemTime) -> Result<f64> {
    Ok(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64())
}

fn refused(line: &Value, code: &str) -> Result<()> {
    ensure!(line["ok"] == false && line["code"] == code, "not refused as {code}: {line}");
    ensure!(line["error"].as_str().is_some_and(|words| words.len() > 10), "it does not say why: {line}");
    Ok(())
}
