"""The catalogue of attribution methods: one small file for each family of methods, with its claims beside it."""
