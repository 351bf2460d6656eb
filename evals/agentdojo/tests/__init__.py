"""Tests of the measure itself: what it says must be so."""
