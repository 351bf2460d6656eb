//! An `Allowed` whose act is changed after the decision.

fn alter(mut allowed: policy::Allowed<policy::ModelCall>, other: policy::ModelCall) {
    allowed.action = other;
}

fn main() {}
