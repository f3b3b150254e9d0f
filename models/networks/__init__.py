"""The networks of the papers, one file for each family."""
