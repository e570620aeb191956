"""f, the classifier that is retrained on every subset: networks, training, prediction, and what makes them fast."""
