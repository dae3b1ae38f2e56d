"""A whole run, written from a Hugging Face folder."""
