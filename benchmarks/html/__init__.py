"""Results as one HTML file that opens anywhere: no network, no library, charts as SVG.

Python writes the table and every chart; `report.js` sorts, filters and shows tooltips, and without it all of them are
there still. The page's content security policy lets no request out and no script in but that one.
"""

from benchmarks.html.page import FILE_NAME, render

__all__ = ["FILE_NAME", "render"]
