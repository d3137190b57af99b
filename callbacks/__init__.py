"""Callbacks that look into a model after every epoch, on any number of processes."""
