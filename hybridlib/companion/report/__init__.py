"""What is shown: the paper's numbers, summaries, tables, claims, figures, the frame of a notebook."""
