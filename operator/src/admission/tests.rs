//! The webhooks as the API server sees them.
