"""Sweeps and trainings on Ray: the only place that imports ray."""
