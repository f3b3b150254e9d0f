"""Searching for counterexamples: cells, streams of cases, shrinking, witnesses and their replay."""
