"""Data modules: one file a data set, over one small base."""
