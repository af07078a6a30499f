//! The only list of vendors in the repository.
