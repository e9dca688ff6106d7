//! The decision whether and how a pod gets a proxy. Pure: it knows types, no cluster.
