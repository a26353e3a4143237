"""Modules of ours, registered with OpenMMLab: one file a module. A config that uses one names it in `custom_imports`."""
