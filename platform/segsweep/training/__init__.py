"""Training in plain torch: recipe, optimisation, loop, inference, checkpoints. No Ray here."""
