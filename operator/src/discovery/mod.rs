//! The discovery stream: subscriptions, updates and acknowledgements of proxies.
