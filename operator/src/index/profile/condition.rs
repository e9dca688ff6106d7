//! Reads the conditions of a ServiceProfile. Several fields of one condition must all be met.

use crate::index::fault::Faults;
use conduit_crds::service_profile::{
    self as crd,
    condition::{
        MAX_LEVELS, MAX_METHOD, MAX_PATH_REGEX, MAX_REQUEST_CONDITIONS, MAX_RESPONSE_CONDITIONS, StatusRange, TOO_DEEP,
    },
};
use conduit_model::{PathRegex, RequestMatch, ResponseMatch};
use http::Method;
use std::ops::RangeInclusive;

/// Reads the condition at `path`; none if it has a fault.
pub(super) fn read<C: Condition>(path: &str, condition: &C, faults: &mut Faults) -> Option<C::Read> {
    read_level(path, condition, 1, faults)
}

/// What conditions on requests and on responses have in common: they nest.
pub(super) trait Condition: Sized {
    /// What a proxy is told.
    type Read;
    /// Most conditions in `all` or `any`.
    const MAX_CONDITIONS: usize;
    /// The fields, of which at least one is set.
    const FIELDS: &'static str;

    /// `all`, `any` and `not`.
    fn nested(&self) -> (Option<&[Self]>, Option<&[Self]>, Option<&Self>);
    /// The fields that do not nest: each with its value, or with none if it has a fault.
    fn leaves(&self, path: &str, faults: &mut Faults) -> Vec<Option<Self::Read>>;
    fn all(conditions: Vec<Self::Read>) -> Self::Read;
    fn any(conditions: Vec<Self::Read>) -> Self::Read;
    fn not(condition: Self::Read) -> Self::Read;
}

fn read_level<C: Condition>(path: &str, condition: &C, level: usize, faults: &mut Faults) -> Option<C::Read> {
    if level > MAX_LEVELS {
        faults.invalid(path, TOO_DEEP);
        return None;
    }
    let (all, any, not) = condition.nested();
    let mut fields = condition.leaves(path, faults);
    if let Some(all) = all {
        fields.push(read_list(&format!("{path}.all"), all, level, faults).map(C::all));
    }
    if let Some(any) = any {
        fields.push(read_list(&format!("{path}.any"), any, level, faults).map(C::any));
    }
    if let Some(not) = not {
        fields.push(read_level(&format!("{path}.not"), not, level + 1, faults).map(C::not));
    }
    if fields.is_empty() {
        faults.invalid(path, format!("must set at least one of {}", C::FIELDS));
        return None;
    }
    let mut fields: Vec<_> = fields.into_iter().collect::<Option<_>>()?;
    match fields.len() {
        1 => fields.pop(),
        _ => Some(C::all(fields)),
    }
}

fn read_list<C: Condition>(path: &str, list: &[C], level: usize, faults: &mut Faults) -> Option<Vec<C::Read>> {
    faults.check_length(path, list, C::MAX_CONDITIONS);
    // Every item is read before one that has a fault ends it, so that all faults are reported.
    let read: Vec<_> = list
        .iter()
        .enumerate()
        .map(|(i, condition)| read_level(&format!("{path}[{i}]"), condition, level + 1, faults))
        .collect();
    read.into_iter().collect()
}

impl Condition for crd::RequestMatch {
    type Read = RequestMatch;
    const MAX_CONDITIONS: usize = MAX_REQUEST_CONDITIONS;
    const FIELDS: &'static str = "all, any, method, not, pathRegex";

    fn nested(&self) -> (Option<&[Self]>, Option<&[Self]>, Option<&Self>) {
        (self.all.as_deref(), self.any.as_deref(), self.not.as_deref())
    }

    fn leaves(&self, path: &str, faults: &mut Faults) -> Vec<Option<RequestMatch>> {
        let regex = self.path_regex.as_deref().map(|regex| {
            let regex = at_most(MAX_PATH_REGEX, regex).and_then(PathRegex::parse);
            faults.check(&format!("{path}.pathRegex"), regex).map(RequestMatch::Path)
        });
        let method = self.method.as_deref().map(|name| {
            let method = at_most(MAX_METHOD, name).and_then(|name| {
                Method::from_bytes(name.as_bytes()).map_err(|_| format!("must be an HTTP method, was {name:?}"))
            });
            faults.check(&format!("{path}.method"), method).map(RequestMatch::Method)
        });
        regex.into_iter().chain(method).collect()
    }

    fn all(conditions: Vec<RequestMatch>) -> RequestMatch {
        RequestMatch::All(conditions)
    }

    fn any(conditions: Vec<RequestMatch>) -> RequestMatch {
        RequestMatch::Any(conditions)
    }

    fn not(condition: RequestMatch) -> RequestMatch {
        RequestMatch::Not(Box::new(condition))
    }
}

impl Condition for crd::ResponseMatch {
    type Read = ResponseMatch;
    const MAX_CONDITIONS: usize = MAX_RESPONSE_CONDITIONS;
    const FIELDS: &'static str = "all, any, not, status";

    fn nested(&self) -> (Option<&[Self]>, Option<&[Self]>, Option<&Self>) {
        (self.all.as_deref(), self.any.as_deref(), self.not.as_deref())
    }

    fn leaves(&self, path: &str, faults: &mut Faults) -> Vec<Option<ResponseMatch>> {
        let status = self.status.as_ref();
        status
            .map(|range| statuses(&format!("{path}.status"), range, faults).map(ResponseMatch::Status))
            .into_iter()
            .collect()
    }

    fn all(conditions: Vec<ResponseMatch>) -> ResponseMatch {
        ResponseMatch::All(conditions)
    }

    fn any(conditions: Vec<ResponseMatch>) -> ResponseMatch {
        ResponseMatch::Any(conditions)
    }

    fn not(condition: ResponseMatch) -> ResponseMatch {
        ResponseMatch::Not(Box::new(condition))
    }
}

/// A range of statuses; one end alone stands for exactly that status.
fn statuses(path: &str, range: &StatusRange, faults: &mut Faults) -> Option<RangeInclusive<u16>> {
    let mut code = |field: &str, code: u32| {
        let status = u16::try_from(code).ok().filter(|status| (100..=599).contains(status));
        let status = status.ok_or_else(|| format!("must be a status from 100 to 599, was {code}"));
        faults.check(&format!("{path}.{field}"), status)
    };
    let (min, max) = match (range.min, range.max) {
        (None, None) => {
            faults.invalid(path, "must set at least one of min, max");
            return None;
        }
        (Some(only), None) => {
            let only = code("min", only)?;
            (only, only)
        }
        (None, Some(only)) => {
            let only = code("max", only)?;
            (only, only)
        }
        (Some(min), Some(max)) => {
            let (min, max) = (code("min", min), code("max", max));
            (min?, max?)
        }
    };
    if min > max {
        faults.invalid(path, format!("min must not be above max, was {min} to {max}"));
        return None;
    }
    Some(min..=max)
}

/// `text`, if it has at most `max` characters.
fn at_most(max: usize, text: &str) -> Result<&str, String> {
    match text.chars().count() {
        n if n > max => Err(format!("must have at most {max} characters, had {n}")),
        _ => Ok(text),
    }
}
