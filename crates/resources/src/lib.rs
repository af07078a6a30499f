//! The YAML documents people write, parsed as the reference parses them; pure.
