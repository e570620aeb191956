"""What a user brings as code: classifiers, features and strategies of their own, by name or as they are."""
