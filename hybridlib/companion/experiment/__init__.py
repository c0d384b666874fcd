"""Run the experiment: profiles (settings), the store of runs, and the study that uses both."""
