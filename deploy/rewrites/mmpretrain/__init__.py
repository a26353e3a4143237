"""Rewrites of mmpretrain's own modules."""
