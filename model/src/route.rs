//! Which route a request takes.

use crate::{
    class::ResponseClass,
    wire::{self, WireError, each, required},
};
use http::Method;
use regex::{Regex, RegexBuilder};
use std::fmt;

/// One named route of a Service: what it matches, and how its responses are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// As the user named it; the value of the metric label `rt_route`.
    pub name: String,
    /// Which requests take it.
    pub condition: RequestMatch,
    /// Ordered: the first whose condition matches a response decides.
    pub response_classes: Vec<ResponseClass>,
    /// The object that the route was written in.
    pub source: ObjectRef,
}

/// An object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind, such as `ServiceProfile`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// Writes the reference as a message.
    pub fn to_wire(&self) -> wire::ObjectRef {
        wire::ObjectRef { kind: self.kind.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Reads a reference.
    pub fn from_wire(message: wire::ObjectRef) -> Self {
        Self { kind: message.kind, namespace: message.namespace, name: message.name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.to_lowercase(), self.namespace, self.name)
    }
}

/// A condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestMatch {
    /// Every one of these; never empty.
    All(Vec<RequestMatch>),
    /// At least one of these; never empty.
    Any(Vec<RequestMatch>),
    /// Not this one.
    Not(Box<RequestMatch>),
    /// The path, without its query.
    Path(PathRegex),
    /// The method, exactly.
    Method(Method),
}

impl RequestMatch {
    /// Whether a request with this method and path (without query) meets the condition.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        match self {
            Self::All(all) => all.iter().all(|m| m.matches(method, path)),
            Self::Any(any) => any.iter().any(|m| m.matches(method, path)),
            Self::Not(not) => !not.matches(method, path),
            Self::Path(regex) => regex.is_match(path),
            Self::Method(wanted) => wanted == method,
        }
    }

    fn to_wire(&self) -> wire::RequestMatch {
        use wire::request_match::{List, Match};
        let list = |matches: &[Self]| List { matches: matches.iter().map(Self::to_wire).collect() };
        wire::RequestMatch {
            r#match: Some(match self {
                Self::All(all) => Match::All(list(all)),
                Self::Any(any) => Match::Any(list(any)),
                Self::Not(not) => Match::Not(Box::new(not.to_wire())),
                Self::Path(regex) => Match::PathRegex(regex.pattern.clone()),
                Self::Method(method) => Match::Method(method.to_string()),
            }),
        }
    }

    fn from_wire(message: wire::RequestMatch) -> Result<Self, WireError> {
        use wire::request_match::{List, Match};
        let list = |field: &str, list: List| match list.matches.is_empty() {
            true => Err(WireError::new(field, "must not be empty")),
            false => each(field, list.matches, Self::from_wire),
        };
        Ok(match required("match", message.r#match)? {
            Match::All(all) => Self::All(list("all", all)?),
            Match::Any(any) => Self::Any(list("any", any)?),
            Match::Not(not) => Self::Not(Box::new(Self::from_wire(*not).map_err(|e| e.within("not"))?)),
            Match::PathRegex(pattern) => {
                Self::Path(PathRegex::parse(&pattern).map_err(|e| WireError::new("path_regex", e))?)
            }
            Match::Method(method) => Self::Method(
                Method::from_bytes(method.as_bytes())
                    .map_err(|_| WireError::new("method", format!("must be an HTTP method, was {method:?}")))?,
            ),
        })
    }
}

/// A regular expression that matches a whole path.
#[derive(Clone, Debug)]
pub struct PathRegex {
    pattern: String,
    regex: Regex,
}

impl PathRegex {
    /// Most memory that one compiled expression may take, in bytes.
    pub const SIZE_LIMIT: usize = 256 * 1024;

    /// Compiles `pattern` in the syntax of the `regex` crate. White space around it is dropped, and it is anchored at
    /// both ends whether or not it says so.
    ///
    /// # Errors
    /// What is wrong with the pattern, for people to read.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let pattern = pattern.trim();
        if pattern.is_empty() {
            return Err("must not be empty".into());
        }
        // Compiled alone first, so that `a)(b` is refused, and errors point into what the user wrote.
        let compile = |text: &str| RegexBuilder::new(text).size_limit(Self::SIZE_LIMIT).build();
        compile(pattern)
            .and_then(|_| compile(&format!("^(?:{pattern})$")))
            .map(|regex| Self { pattern: pattern.to_owned(), regex })
            .map_err(|error| format!("must be a regular expression: {error}"))
    }

    /// Whether the expression matches all of `path`.
    pub fn is_match(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// The expression as it was written, without white space around it.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for PathRegex {}

impl Route {
    /// The first of `routes` that a request with this method and path (without query) meets.
    pub fn find<'r>(routes: &'r [Self], method: &Method, path: &str) -> Option<&'r Self> {
        routes.iter().find(|route| route.condition.matches(method, path))
    }

    /// Writes the route as a message.
    pub fn to_wire(&self) -> wire::Route {
        wire::Route {
            name: self.name.clone(),
            condition: Some(self.condition.to_wire()),
            response_classes: self.response_classes.iter().map(ResponseClass::to_wire).collect(),
            source: Some(self.source.to_wire()),
        }
    }

    /// Reads a route.
    pub fn from_wire(message: wire::Route) -> Result<Self, WireError> {
        let source = required("source", message.source)?;
        Ok(Self {
            condition: RequestMatch::from_wire(required("condition", message.condition)?)
                .map_err(|e| e.within("condition"))?,
            response_classes: each("response_classes", message.response_classes, ResponseClass::from_wire)?,
            name: message.name,
            source: ObjectRef::from_wire(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str) -> RequestMatch {
        RequestMatch::Path(PathRegex::parse(pattern).unwrap())
    }

    fn route(name: &str, condition: RequestMatch) -> Route {
        Route {
            name: name.into(),
            condition,
            response_classes: Vec::new(),
            source: ObjectRef { kind: "ServiceProfile".into(), namespace: "shop".into(), name: "web".into() },
        }
    }

    #[test]
    fn a_path_regex_is_anchored_at_both_ends_whether_or_not_it_says_so() {
        for (pattern, text, matches) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "/x/a", false),
            ("^/a$", "/a", true),
            (" /a ", "/a", true),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            ("/books/\\d+", "/books/42", true),
        ] {
            assert_eq!(PathRegex::parse(pattern).unwrap().is_match(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_bad_or_empty_regex_is_refused_in_words() {
        assert_eq!(PathRegex::parse("  ").unwrap_err(), "must not be empty");
        assert!(PathRegex::parse("/a)(b").unwrap_err().starts_with("must be a regular expression: "));
        assert!(PathRegex::parse("(").is_err());
        assert!(PathRegex::parse("\\w{1000}{1000}").unwrap_err().contains("size limit"));
    }

    #[test]
    fn conditions_nest() {
        let condition = RequestMatch::All(vec![
            RequestMatch::Method(Method::GET),
            RequestMatch::Any(vec![path("/a"), path("/b")]),
            RequestMatch::Not(Box::new(path("/b"))),
        ]);
        assert!(condition.matches(&Method::GET, "/a"));
        assert!(!condition.matches(&Method::GET, "/b"));
        assert!(!condition.matches(&Method::POST, "/a"));
    }

    #[test]
    fn the_first_route_that_matches_is_taken() {
        let routes = [route("one", path("/a")), route("two", path("/.*"))];
        let find = |path| Route::find(&routes, &Method::GET, path).map(|route| route.name.as_str());
        assert_eq!((find("/a"), find("/b"), find("*")), (Some("one"), Some("two"), None));
    }

    #[test]
    fn a_route_survives_the_wire() {
        let route = route(
            "all",
            RequestMatch::All(vec![
                path("/a.*"),
                RequestMatch::Not(Box::new(RequestMatch::Any(vec![RequestMatch::Method(Method::PUT)]))),
            ]),
        );
        assert_eq!(Route::from_wire(route.to_wire()), Ok(route));
    }

    #[test]
    fn a_route_with_a_bad_regex_deep_inside_is_refused_with_its_place() {
        let mut message = route("x", RequestMatch::All(vec![RequestMatch::Any(vec![path("/")])])).to_wire();
        message.condition = Some(wire::RequestMatch {
            r#match: Some(wire::request_match::Match::All(wire::request_match::List {
                matches: vec![wire::RequestMatch { r#match: Some(wire::request_match::Match::PathRegex("(".into())) }],
            })),
        });
        assert_eq!(Route::from_wire(message).unwrap_err().field, "condition.all[0].path_regex");
    }
}
