"""Search in collections bigger than memory: loaders by name, exact search, measures, TREC files."""
