"""What lies between two rounds: the request to the annotators, their answers, and what becomes of both."""
