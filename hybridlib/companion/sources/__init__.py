"""Sources of texts: the embedded corpus, the sets of Table 9, filters, leak check, translation."""
