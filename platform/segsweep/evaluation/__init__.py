"""Evaluation of trained models as the papers do it."""
