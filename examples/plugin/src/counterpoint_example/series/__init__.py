"""Series of measurements as items."""
