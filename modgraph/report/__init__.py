"""A hierarchy as one HTML page: `facts` collects its texts and tables, `picture` its drawings, `page` writes it."""

from modgraph.report.page import report

__all__ = ["report"]
