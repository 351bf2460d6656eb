//! For tests only: a hostile guest, faults, temporary folders, a VM to test in.
