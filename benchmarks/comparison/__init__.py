"""Parts of `benchmarks/vlm.py`: settings, how ours and the baseline step, how steps are timed and profiled."""
