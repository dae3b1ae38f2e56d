"""Faults as tired engineers make them, planted one by one to see whether a test notices."""
