"""Modules of ours, registered with OpenMMLab. A new loss or backbone is one new file here."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
