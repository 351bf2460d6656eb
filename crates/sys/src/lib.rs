//! Small safe wrappers over namespaces, cgroups, mounts, seccomp and descriptors: the only place with `unsafe`.
