"""Quality of predicted label maps."""
