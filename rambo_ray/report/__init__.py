"""What a person looks at: the page of a run with its plots and pictures, and tables."""
