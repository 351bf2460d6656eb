//! The scripted model: a model provider over real HTTP whose answers follow a script, for the demo and the tests.
