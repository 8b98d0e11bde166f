"""What a model costs: exact counts, measured speed, published figures."""
