"""Rewrites of mmsegmentation's own code, imported for its models only."""
