"""Search spaces as data, and the strategies that propose points and stop trials. No torch, no Ray."""
