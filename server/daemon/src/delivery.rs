//! Delivery.

pub mod smtp;
