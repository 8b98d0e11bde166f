"""Convolutions, norms and resizing that every part is made of."""
