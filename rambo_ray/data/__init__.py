"""Images and labels: from files to the problem that a run is given, S_0, S_val and the pool U_0."""
