//! vmailspec
fn main(){}
