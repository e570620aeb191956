"""What a result's bits depend on of the machines that compute it, and whether several of them agree on it."""
