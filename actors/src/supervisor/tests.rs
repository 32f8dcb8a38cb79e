//! The supervisor's tests, failure paths first. Paused time on one thread, except where a thread is to be blocked.

mod escalation;
mod order;
mod references;
mod restarts;
mod rig;
mod threads;
