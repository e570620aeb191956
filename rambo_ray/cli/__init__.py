"""The command line: each job from its arguments to its files and its exit code."""
