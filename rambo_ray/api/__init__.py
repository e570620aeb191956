"""RAMBO from Python: `Rambo` picks, `Picked` is what it picked; `Cost` and `Backtested` are said before it."""
