"""Networks as data: what they compute, how they are drawn, written, and rewritten."""
