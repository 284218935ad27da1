//! End-to-end tests, on a real API server, kubelet, container runtime and chain.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod chain_down;
mod contention;
mod device_plugin;
mod divided;
mod examples;
mod finalizer;
mod key;
mod kills;
mod meter;
mod network;
mod only_scheduler;
mod own_node;
mod pod_groups;
mod preemption;
mod receipts;
mod refusals;
mod release;
mod resize;
mod retries;
mod shares;
mod volumes;
