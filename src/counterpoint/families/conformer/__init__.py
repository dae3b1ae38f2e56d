"""FastConformer encoders of clips."""
