"""The forms in which a set of images or embeddings may lie around, each in a module, behind one interface."""
