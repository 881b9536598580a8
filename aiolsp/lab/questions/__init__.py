"""Questions answered by an experiment: ``python -m aiolsp lab ask``."""
