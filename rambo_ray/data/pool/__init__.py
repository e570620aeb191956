"""A pool too large for memory: its files, the parts that a pass over it leaves behind, and what is kept of these."""
