//! plu-onboard.
