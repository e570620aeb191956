"""The Ray layer: the only place in the package that imports ray. Each file fans out one pure stage."""
