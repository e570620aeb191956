"""Which B images of the pool are acquired: RAMBO's greedy choice, its controls, and other strategies."""
