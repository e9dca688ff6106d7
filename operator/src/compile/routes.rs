//! Which ServiceProfile names a Service's routes.
//!
//! Two can: one in the client's namespace and one in the Service's. The client's wins whole; nothing is merged. A
//! profile that cannot be read wins as if it could be, so that nobody is told half of what two users meant: meanwhile
//! there are no routes.

use super::{Trace, Unreadable, programmed::Source};
use crate::index::{Fact, ObjectName, View};
use conduit_model::Route;

/// The routes of a Service as clients in `client` see them; none where no profile names it.
pub(super) fn routes(view: &View, client: &str, service: &ObjectName, trace: &mut Trace) -> Vec<Route> {
    trace.depends_on(Fact::Service(service.clone()));
    let name = view.fqdn(service);
    let profile =
        [client, &service.namespace].into_iter().find_map(|namespace| view.profile(&ObjectName::new(namespace, &name)));
    let Some(profile) = profile else { return Vec::new() };
    trace.made_from(Source::profile(profile));
    match &profile.value {
        Some(profile) => profile.routes.clone(),
        None => {
            let object = format!("serviceprofile/{}", profile.name);
            trace.cannot_read(Unreadable { object, reason: profile.unreadable().unwrap_or_default() });
            Vec::new()
        }
    }
}
