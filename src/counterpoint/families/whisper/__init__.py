"""Whisper's encoder of clips."""
