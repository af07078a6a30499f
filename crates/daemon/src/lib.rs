//! What every long-running process is made of: logs, metrics, tracing, health, signals, tasks, drain.
