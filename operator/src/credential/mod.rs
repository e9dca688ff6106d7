//! Who is at the other end of a stream: turns a bearer token into a proven workload.
