"""A hierarchy as one HTML file that explains itself: `picture` places the ink, `page` fills the template."""

from modgraph.report.page import report

__all__ = ["report"]
