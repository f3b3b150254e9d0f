"""What a layer computes: one file for each group of kinds of layers."""
