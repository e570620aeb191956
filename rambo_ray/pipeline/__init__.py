"""What a run consists of around the method: its plan, what is prepared once, its files, its forecast."""
