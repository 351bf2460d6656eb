//! The door process: what the guest speaks, turned into bounded, typed requests.
