"""Where the data of trained models comes from, one file for each source."""
