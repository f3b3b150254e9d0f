"""Methods of other libraries as methods under test: one file for each library, found through a table."""
