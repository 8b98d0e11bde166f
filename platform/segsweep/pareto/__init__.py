"""Fronts and hypervolumes of several objectives, with numpy only."""
