"""Reports: a self-contained HTML page for readers, a JSON summary for programs, and their figures and tables.

    figures     loss_curves · final_loss_by_depth · search_scatter     Plotly figures from rows or arrays
    tables      final_loss_table · paper_comparison
    page        Page of ClaimVerdict, Section, Card, TableData -> write_page
    summary     write_summary
    dissection  DissectionFindings -> write_dissection

All functions take plain data: a report does not depend on an experiment or a run folder.
"""

from thruway.report.card import Card, CardCode, CardFigure, CardList
from thruway.report.content import (
    ROW_KEYS,
    Cell,
    ClaimVerdict,
    Page,
    Section,
    TableData,
    paper_comparison,
    write_summary,
)
from thruway.report.dissection import dissection_json, dissection_page, write_dissection
from thruway.report.dissection_findings import DissectionFindings
from thruway.report.loss_figures import final_loss_by_depth, loss_curves
from thruway.report.page import render_page, write_page
from thruway.report.search import HYPERPARAMETERS, Hyperparameter, final_loss_table, search_scatter

__all__ = [
    "HYPERPARAMETERS",
    "ROW_KEYS",
    "Card",
    "CardCode",
    "CardFigure",
    "CardList",
    "Cell",
    "ClaimVerdict",
    "DissectionFindings",
    "Hyperparameter",
    "Page",
    "Section",
    "TableData",
    "dissection_json",
    "dissection_page",
    "final_loss_by_depth",
    "final_loss_table",
    "loss_curves",
    "paper_comparison",
    "render_page",
    "search_scatter",
    "write_dissection",
    "write_page",
    "write_summary",
]
