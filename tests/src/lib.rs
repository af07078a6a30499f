//! Only a home for the tests in `it/`, which run real processes. Nothing of the product is here.
