"""Benchmarks: RAMBO beside other strategies, run by run, and what the runs come to."""
