"""LightningModules: one file a phase or model."""
