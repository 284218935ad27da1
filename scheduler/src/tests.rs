//! Whole cycles against an API server that loses and refuses requests: what is written, in which order, and what a
//! successor makes of what a dead scheduler left.

mod api_server;
mod bad_input;
mod binding;
mod cluster;
mod conditions;
mod crowding;
mod ending;
mod journal;
mod left;
mod obstacles;
mod pod_groups;
mod preempting;
mod simulation;
mod status;
mod storms;
mod strangers;
mod undoing;
mod volumes;
