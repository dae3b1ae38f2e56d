"""Steps of many layouts, measured and predicted."""
