"""Sequences with true poses, the metrics on them, the baselines, and their tables and pictures."""
