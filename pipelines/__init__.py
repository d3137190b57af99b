"""Staged training: phases, the runner, the command line."""
