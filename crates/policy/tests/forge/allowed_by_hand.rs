//! An `Allowed` made by hand.

use policy::{Allowed, ModelCall};

fn main() {
    let model = "a/b".parse().unwrap();
    let _forged = Allowed {
        action: ModelCall { model },
        binding: domain::Digest::from_bytes([0; 32]),
        grant: None,
        labels: domain::Labels::default(),
        reasons: Vec::new(),
    };
}
