"""A backtest: the round played with labelled images only, to see before any money is spent what beats random."""
