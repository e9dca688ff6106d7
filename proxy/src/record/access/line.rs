//! What a line says, and how it is written.

use super::{Conversation, request::Asked};
use crate::record::labels::Labels;
use serde::{Serialize, Serializer};
use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// All that a line says.
#[derive(Serialize)]
pub(super) struct Line<'l> {
    #[serde(skip)]
    pub(super) conversation: &'l Conversation,
    #[serde(flatten)]
    pub(super) fields: Fields<'l>,
}

/// What a line says beside of which connection it is.
#[derive(Serialize)]
pub(super) struct Fields<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<SocketAddr>,
    #[serde(flatten)]
    pub(super) what: What<'l>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'static str>,
    /// Of all series that it was counted in.
    #[serde(flatten, serialize_with = "merged")]
    pub(super) labels: &'l [&'l Labels],
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum What<'l> {
    Request {
        /// None where its head could not be read.
        #[serde(flatten)]
        request: Option<&'l Asked>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        grpc_status: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        classification: Option<&'static str>,
        response_bytes: u64,
        #[serde(rename = "latency_ms", serialize_with = "milliseconds")]
        latency: Duration,
    },
    Connection {
        protocol: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        sni: Option<&'l str>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        alpn: &'l [Box<str>],
        received_bytes: u64,
        sent_bytes: u64,
        #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
        duration: Duration,
    },
}

impl Line<'_> {
    /// As one JSON object, at the time that is `now`.
    pub(super) fn json(&self, now: SystemTime) -> Vec<u8> {
        #[derive(Serialize)]
        struct Whole<'l> {
            timestamp: String,
            kind: &'static str,
            direction: &'static str,
            client: SocketAddr,
            server: SocketAddr,
            #[serde(flatten)]
            line: &'l Line<'l>,
        }
        let Conversation { direction, client, server, .. } = *self.conversation;
        let at = self.begun(now);
        let whole = Whole {
            timestamp: format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second(),
                at.microsecond()
            ),
            kind: match self.fields.what {
                What::Request { .. } => "request",
                What::Connection { .. } => "connection",
            },
            direction: direction.name(),
            client,
            server,
            line: self,
        };
        let mut line = serde_json::to_vec(&whole).expect("texts and numbers under texts are JSON");
        line.push(b'\n');
        line
    }

    /// In Apache's Common Log Format, at the time that is `now`.
    pub(super) fn apache(&self, now: SystemTime) -> Vec<u8> {
        let at = self.begun(now);
        let month = at.month().to_string();
        let identity = self.label("client_id").unwrap_or("-");
        let mut line = format!(
            "{} {identity} - [{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000] \"",
            self.conversation.client.ip(),
            at.day(),
            &month[..3],
            at.year(),
            at.hour(),
            at.minute(),
            at.second()
        );
        let (status, bytes) = match &self.fields.what {
            What::Request { request, status, response_bytes, .. } => {
                match request {
                    Some(Asked { method, uri, host, version, .. }) => {
                        let target = if uri.is_empty() { host.as_deref().unwrap_or("-") } else { uri };
                        escape(&mut line, &format!("{method} {target} {version:?}"));
                    }
                    None => line.push('-'),
                }
                (*status, *response_bytes)
            }
            What::Connection { protocol, sni, sent_bytes, .. } => {
                let server = self.conversation.server;
                let target = sni.map_or_else(|| server.to_string(), |name| format!("{name}:{}", server.port()));
                escape(&mut line, &format!("TCP {target} {protocol}"));
                (None, *sent_bytes)
            }
        };
        line += "\" ";
        line += &status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        line += &format!(" {bytes}\n");
        line.into_bytes()
    }

    /// When what ends `now` began.
    fn begun(&self, now: SystemTime) -> OffsetDateTime {
        let (What::Request { latency: took, .. } | What::Connection { duration: took, .. }) = self.fields.what;
        now.checked_sub(took).unwrap_or(now).into()
    }

    fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.fields.labels.iter().flat_map(|labels| labels.in_order());
        labels.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// What would end the field, or the line, is written as its number.
fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                let _ = write!(line, "\\x{:02x}", u32::from(character));
            }
            character if character.is_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
}

/// Every label once. The direction is a field of its own, and at which end of the proxy a connection was counted is nothing to
/// whoever reads the line of both.
fn merged<S: Serializer>(all: &[&Labels], serializer: S) -> Result<S::Ok, S::Error> {
    let mut merged: Vec<(&str, &str)> = Vec::new();
    for (name, value) in all.iter().flat_map(|labels| labels.in_order()) {
        if !["direction", "peer"].contains(&name) && !merged.iter().any(|(known, _)| *known == name) {
            merged.push((name, value));
        }
    }
    serializer.collect_map(merged)
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{AccessFormat, AccessLog, ConnectionLine, Ended, Heard, RequestLine, TlsNames},
        *,
    };
    use crate::{
        outcome::Failure,
        record::{Metrics, labels::Direction},
    };
    use http::Request;
    use http_body_util::Full;
    use serde_json::Value;
    use std::{
        io,
        rc::Rc,
        sync::{Arc, Mutex},
    };

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `say` has written of a connection, without what depends on the clock.
    fn lines(format: AccessFormat, direction: Direction, say: impl FnOnce(&Rc<Conversation>)) -> Vec<String> {
        let page = Page::default();
        let metrics = Metrics::logging(Some(AccessLog::start(format, page.clone()).unwrap()));
        let (client, server) = ("10.1.0.7:40312".parse().unwrap(), "10.1.0.9:8443".parse().unwrap());
        say(&Conversation::begin(&metrics, direction, client, server).unwrap());
        metrics.end_log(Duration::from_secs(20));
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    fn ended() -> Ended {
        let latency = Duration::from_micros(1204);
        Ended { status: Some(200), grpc: None, classification: "success", error: None, latency }
    }

    fn route() -> Labels {
        Labels::direction(Direction::Inbound).and("dst", "web.shop:80").and("rt_route", "/books")
    }

    fn asked(uri: &str, headers: &[(&str, &str)], log: &Rc<Conversation>) -> Box<RequestLine> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        RequestLine::of(&request.body(Full::new(bytes::Bytes::from_static(b"abc"))).unwrap(), Some(log)).unwrap()
    }

    #[test]
    fn a_request_is_one_json_object_with_the_labels_that_it_was_counted_under() {
        let written = lines(AccessFormat::Json, Direction::Inbound, |log| {
            let mut line = asked("/books?page=2", &[("host", "web"), ("user-agent", "curl/8")], log);
            line.tried("10.1.0.9:8080".parse().unwrap());
            line.passed(500);
            line.passed(12);
            let endpoint = Labels::direction(Direction::Inbound).and("client_id", "spiffe://a").and("dst", "other");
            line.ended(ended(), &[&route(), &endpoint]);
        });
        let (time, rest) = written[0].split_at("{\"timestamp\":\"2026-01-01T00:00:00.000000Z\",".len());
        assert!(time.starts_with("{\"timestamp\":\"20") && time.ends_with("Z\","), "{time}");
        assert_eq!(
            rest,
            concat!(
                r#""kind":"request","direction":"inbound","client":"10.1.0.7:40312","server":"10.1.0.9:8443","#,
                r#""endpoint":"10.1.0.9:8080","method":"GET","host":"web","uri":"/books?page=2","version":"HTTP/1.1","#,
                r#""user_agent":"curl/8","request_bytes":3,"status":200,"classification":"success","response_bytes":512,"#,
                r#""latency_ms":1.204,"dst":"web.shop:80","rt_route":"/books","client_id":"spiffe://a"}"#
            )
        );
    }

    #[test]
    fn what_a_client_chose_is_bounded_and_cannot_end_its_field_or_line() {
        let long = format!("/{}", "a".repeat(9000));
        let say = |log: &Rc<Conversation>| {
            asked(&long, &[("user-agent", "a\t\"b\" \\c")], log).ended(ended(), &[&route()]);
            asked("/a\"b", &[], log).ended(ended(), &[&route()]);
            let request = Request::builder().method(&*"M".repeat(9000)).body(Full::<bytes::Bytes>::default()).unwrap();
            RequestLine::of(&request, Some(log)).unwrap().ended(ended(), &[&route()]);
        };
        let json = lines(AccessFormat::Json, Direction::Inbound, say);
        assert_eq!(json.len(), 3);
        assert!(json[2].len() < 4096, "{}", json[2]);
        let first: Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((first["uri"].as_str().unwrap().len(), &first["user_agent"]), (2048, &Value::from("a\t\"b\" \\c")));
        let apache = lines(AccessFormat::Apache, Direction::Inbound, say);
        assert_eq!(apache.len(), 3);
        assert!(apache[1].ends_with("] \"GET /a\\x22b HTTP/1.1\" 200 0"), "{}", apache[1]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_as_text() {
        let say = |log: &Rc<Conversation>| asked("/a\u{9b}31m\u{e9}", &[], log).ended(ended(), &[&route()]);
        for (format, expected) in
            [(AccessFormat::Json, r#""uri":"/a%C2%9B31mé""#), (AccessFormat::Apache, r#""GET /a%C2%9B31mé HTTP/1.1""#)]
        {
            let written = &lines(format, Direction::Inbound, say)[0];
            assert!(written.contains(expected), "{written}");
        }
    }

    #[test]
    fn a_password_before_the_host_is_not_written() {
        let say = |log: &Rc<Conversation>| asked("http://user:secret@web:80/", &[], log).ended(ended(), &[&route()]);
        let written = &lines(AccessFormat::Json, Direction::Inbound, say)[0];
        assert!(written.contains(r#""host":"web:80""#) && !written.contains("secret"), "{written}");
    }

    #[test]
    fn a_connection_by_tls_says_for_whom_it_is_and_how_it_ended() {
        let say = |log: &Rc<Conversation>| {
            let labels = route().and("client_id", "spiffe://a").and("peer", "src");
            let mut line = ConnectionLine::begin(log, &labels);
            line.connected("10.1.0.3:443".parse().unwrap());
            let names = TlsNames { sni: Some("web.shop".into()), alpn: vec!["h2".into()] };
            line.went(b"hel", |_| Heard::Incomplete);
            line.went(b"lo", |bytes| {
                assert_eq!(bytes, b"hello");
                Heard::Tls(names)
            });
            line.went(b"more", |_| unreachable!("it is known"));
            line.came(b"answer", |_| unreachable!("that is the server"));
            line.failed("ECONNRESET");
            line.failed("EPIPE");
        };
        let json: Value = serde_json::from_str(&lines(AccessFormat::Json, Direction::Inbound, say)[0]).unwrap();
        let expected = serde_json::json!({
            "timestamp": json["timestamp"], "duration_ms": json["duration_ms"],
            "kind": "connection", "direction": "inbound", "client": "10.1.0.7:40312", "server": "10.1.0.9:8443",
            "endpoint": "10.1.0.3:443", "protocol": "tls", "sni": "web.shop", "alpn": ["h2"],
            "received_bytes": 9, "sent_bytes": 6, "error": "ECONNRESET",
            "dst": "web.shop:80", "rt_route": "/books", "client_id": "spiffe://a",
        });
        assert_eq!(json, expected);
        let apache = lines(AccessFormat::Apache, Direction::Inbound, say);
        assert!(apache[0].starts_with("10.1.0.7 spiffe://a - ["), "{}", apache[0]);
        assert!(apache[0].ends_with(" +0000] \"TCP web.shop:8443 tls\" - 6"), "{}", apache[0]);
    }

    #[test]
    fn what_was_refused_before_it_was_understood_has_a_line_too() {
        let say = |log: &Rc<Conversation>| {
            log.refused(Failure::RequestTooLarge);
            log.unserved(&route(), Failure::ConnectRefused);
        };
        let json = lines(AccessFormat::Json, Direction::Outbound, say);
        let first: Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((&first["status"], &first["error"]), (&Value::from(431), &Value::from("request-head-too-large")));
        let second: Value = serde_json::from_str(&json[1]).unwrap();
        assert_eq!((&second["kind"], &second["error"]), (&Value::from("connection"), &Value::from("connect-refused")));
        let apache = lines(AccessFormat::Apache, Direction::Outbound, say);
        assert!(apache[0].ends_with("] \"-\" 431 0"), "{}", apache[0]);
        assert!(apache[1].ends_with("] \"TCP 10.1.0.9:8443 opaque\" - 0"), "{}", apache[1]);
    }

    #[test]
    fn a_line_tells_when_what_it_is_about_began() {
        let metrics = Metrics::new();
        let address = "10.1.0.7:40312".parse().unwrap();
        let conversation = Conversation {
            metrics,
            direction: Direction::Inbound,
            client: address,
            server: address,
            start: tokio::time::Instant::now(),
        };
        let what = What::Connection {
            protocol: "opaque",
            sni: None,
            alpn: &[],
            received_bytes: 0,
            sent_bytes: 0,
            duration: Duration::from_millis(1500),
        };
        let line =
            Line { conversation: &conversation, fields: Fields { endpoint: None, what, error: None, labels: &[] } };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(text(line.json(now)).contains(r#""timestamp":"2026-09-21T14:13:18.500000Z""#));
        assert!(text(line.apache(now)).contains("[21/Sep/2026:14:13:18 +0000]"));
    }
}
