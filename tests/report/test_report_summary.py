"""`summary.json` and the tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from thruway.errors import ConfigError
from thruway.report import Cell, ClaimVerdict, TableData, final_loss_table, paper_comparison, write_summary

CLAIM = ClaimVerdict("c", "text", "ratio", [1.0, math.inf], ">= 1", "unclear", "fig. 1")


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def strict(path):
    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_check_for_strict_json_rejects_nan(tmp_path):
    (tmp_path / "loose.json").write_text('{"x": NaN}')
    with pytest.raises(AssertionError, match="NaN is not JSON"):
        strict(tmp_path / "loose.json")


def test_the_summary_is_strict_json_for_all_numbers(tmp_path):
    rows = [
        {"block": "plain", "depth": np.int64(10), "final_loss": np.float32("nan"), "diverged": np.bool_(True)},
        {
            "block": "highway",
            "depth": 10,
            "final_loss": np.float64(0.25),
            "diverged": False,
            "curve": np.array([1.0, -np.inf]),
        },
    ]
    path = write_summary(
        tmp_path / "s.json",
        experiment="e",
        rows=rows,
        claims=[CLAIM],
        meta={"out": Path("a/b"), "seeds": (0, 1), 3: None},
    )
    found = strict(path)
    assert found["rows"] == [
        {"block": "plain", "depth": 10, "final_loss": None, "diverged": True},
        {"block": "highway", "depth": 10, "final_loss": 0.25, "diverged": False, "curve": [1.0, None]},
    ]
    assert found["claims"] == [
        {
            "id": "c",
            "text": "text",
            "statistic": "ratio",
            "value": [1.0, None],
            "threshold": ">= 1",
            "verdict": "unclear",
            "source": "fig. 1",
            "note": "",
        }
    ]
    assert found["meta"] == {"out": "a/b", "seeds": [0, 1], "3": None}
    assert (found["schema"], found["experiment"]) == (1, "e")
    assert set(found["keys"]) == {"block", "depth", "final_loss", "diverged"}


def test_losses_are_stored_exactly(tmp_path):
    losses = np.random.default_rng(0).lognormal(-8, 4, 200).tolist()
    path = write_summary(
        tmp_path / "s.json", experiment="e", rows=[{"final_loss": x} for x in losses], claims=[], meta={}
    )
    assert [row["final_loss"] for row in strict(path)["rows"]] == losses


def test_values_that_json_cannot_represent_raise_with_their_place(tmp_path):
    with pytest.raises(ConfigError, match=r"rows\[1\]\.net is a set"):
        write_summary(tmp_path / "s.json", experiment="e", rows=[{}, {"net": {1}}], claims=[], meta={})
    assert list(tmp_path.iterdir()) == []


def test_unknown_verdict_raises():
    with pytest.raises(ConfigError, match="claim 'x': unknown verdict 'hold'; did you mean 'holds'"):
        ClaimVerdict("x", "", "", 0.0, "", "hold", "")


def test_a_ragged_table_raises():
    with pytest.raises(ConfigError, match="row 1 of the table has 1 entries, its 2 columns are a, b"):
        TableData(("a", "b"), ((1, 2), (3,)))


def test_final_loss_table_ranks_and_counts():
    losses = {("plain", 10): [0.4, 0.2, 0.3], ("highway", 10): [0.1, math.nan], ("plain", 50): [math.nan, math.inf]}
    rows = [
        {"block": block, "depth": depth, "final_loss": loss, "seconds": 2.0}
        for (block, depth), each in losses.items()
        for loss in each
    ]
    table = final_loss_table(rows, top=2)
    assert table.rows == (
        (10, "plain", 0.2, 0.25, 3, 0, 2.0),
        (10, "highway", Cell(0.1, "best"), 0.1, 2, Cell(1, "diverged"), 2.0),
        (50, "plain", Cell(None, "diverged"), None, 2, Cell(2, "diverged"), 2.0),
    )
    assert table.columns[3] == "mean of best 2"


def test_paper_comparison_keeps_order():
    table = paper_comparison([("loss", 1e-4, None, "fig. 1"), ("depth", 100, 100, "sec. 3")])
    assert [row[0] for row in table.rows] == ["loss", "depth"]
    assert table.rows[0][1:3] == (1e-4, None)
