//! Made-up data with chosen slowness.
