//! The webhooks: decode what the API server asks, let `inject` or the index's conversion decide, answer.
