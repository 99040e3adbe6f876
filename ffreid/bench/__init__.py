"""Benchmarks, with the plain methods that they compare with."""
