"""Private parts of libraries that are used here: one file for each library, with a test that misses what is taken away."""
