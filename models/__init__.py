"""Networks and data for checks on trained models."""
