"""Sweeps over settings: the space, acquisitions simulated inside S_0, a trial, and what all trials come to."""
