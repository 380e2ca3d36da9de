"""`parity.html`: what the gate found, on one page for the person who answers for the result."""

from cytodino_export.parity_page.evidence import Evidence
from cytodino_export.parity_page.page import parity_page, write_parity_page

__all__ = ["Evidence", "parity_page", "write_parity_page"]
