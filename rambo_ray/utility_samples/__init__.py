"""Utility samples: which subsets of S_0 are drawn, how each is measured, and where measurements are kept."""
