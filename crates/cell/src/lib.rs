//! One cell, from image to exit.

pub mod image;
