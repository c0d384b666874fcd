"""The experiment: profiles, the store of runs, the study."""
