"""Runnable comparisons; RESULTS.md says what was measured, on what, when."""
