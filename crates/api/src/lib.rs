//! The API: its types and its client.
