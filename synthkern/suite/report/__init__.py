"""The report of a benchmark directory: a page that opens anywhere, and its figures as images."""

from synthkern.suite.report.contents import read_report_data
from synthkern.suite.report.images import check_images, write_images
from synthkern.suite.report.page import page, write_page
from synthkern.suite.report.sweeps import read_sweeps

__all__ = [
    "check_images",
    "page",
    "read_report_data",
    "read_sweeps",
    "write_images",
    "write_page",
]
