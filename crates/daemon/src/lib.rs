//! The composition root: agents, sessions, and the API that serves them.
