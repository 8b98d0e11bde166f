"""Parts that turn a pyramid into logits."""
