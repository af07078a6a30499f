//! Every conversation the sidecar starts, components apart: its app and other sidecars.
