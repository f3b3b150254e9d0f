"""The engine of modified backpropagation: one forward pass whose operations are seen, and rules in their places."""
