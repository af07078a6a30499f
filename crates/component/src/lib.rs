//! The traits a component implements, their request and result types, Error and the Registry; knows no vendor.
