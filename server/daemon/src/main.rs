//! vmaild
fn main(){}
