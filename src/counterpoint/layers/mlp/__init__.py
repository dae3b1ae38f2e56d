"""An MLP."""
