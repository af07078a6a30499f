//! Components that need no server: in-memory, local secrets, mDNS.
