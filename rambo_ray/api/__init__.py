"""RAMBO from Python: `Rambo` picks, `Picked` is what it picked."""
