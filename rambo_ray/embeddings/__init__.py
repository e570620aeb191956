"""Frozen embeddings: ImageNet networks, their weights, features kept by content, and what of them f sees."""
