//! Real MySQL, Canal, Kafka and etcd in containers, and what the suites under `tests/tests` share.
