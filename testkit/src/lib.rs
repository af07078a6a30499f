//! Hand-written fakes of every seam, the fake app, one conformance suite per trait.
