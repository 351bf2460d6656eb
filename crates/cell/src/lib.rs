//! One cell, from image to exit.
