"""The table: immutable columns, filters compared with lists of rows, and representations."""

import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway.errors import ConfigError, ShapeError
from thruway.runs import Table

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["loss", "norm"]), st.floats(width=32)),
    max_size=20,
)


def table_of(rows: list[tuple[int, str, float]]) -> Table:
    member, quantity, value = zip(*rows, strict=True) if rows else ((), (), ())
    return Table(
        {"member": np.array(member, int), "quantity": np.array(quantity, object), "value": np.array(value, float)}
    )


@given(ROWS, st.integers(0, 3), st.sets(st.sampled_from(["loss", "norm", "absent"])))
def test_where_agrees_with_a_list_comprehension(
    rows: list[tuple[int, str, float]], member: int, wanted: set[str]
) -> None:
    table = table_of(rows)
    assert table.where(member=member, quantity=wanted) == table_of(
        [r for r in rows if r[0] == member and r[1] in wanted]
    )
    assert table.where(value=lambda v: v > 1) == table_of([r for r in rows if r[2] > 1])


@given(ROWS)
def test_groups_partition_the_table(rows: list[tuple[int, str, float]]) -> None:
    table = table_of(rows)
    groups = dict(table.group("member", "quantity"))
    assert sum(map(len, groups.values())) == len(rows)
    for (member, quantity), part in groups.items():
        assert part == table.where(member=member, quantity=quantity)
    assert list(groups) == list(dict.fromkeys(row[:2] for row in rows))


@given(ROWS, st.integers(0, 19))
def test_tables_with_one_different_value_are_not_equal(rows: list[tuple[int, str, float]], place: int) -> None:
    assert table_of(rows) == table_of(list(rows))
    if rows:
        member, quantity, value = rows[place % len(rows)]
        changed = [*rows]
        changed[place % len(rows)] = (member, quantity, 0.5 if value != 0.5 else 0.25)
        assert table_of(rows) != table_of(changed)


def test_nan_equals_nan_and_order_and_names_matter() -> None:
    assert Table({"value": [math.nan]}) == Table({"value": [math.nan]})
    assert Table({"value": [1.0, 2.0]}) != Table({"value": [2.0, 1.0]})
    assert Table({"value": [1.0]}) != Table({"loss": [1.0]})
    assert Table({"value": [1.0]}) != Table({"value": [1.0, 1.0]})


def test_a_table_is_immutable() -> None:
    source = np.zeros(3)
    table = Table({"value": source})
    source[0] = 7
    assert table["value"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        table["value"][0] = 7
    view = np.arange(4.0)
    view.flags.writeable = False
    assert Table({"value": view}).where(value=[1.0, 3.0])["value"].tolist() == [1.0, 3.0]


def test_rows_contain_plain_python_values() -> None:
    (row,) = Table({"step": np.array([3]), "site": ["h"], "value": np.array([0.5])}).rows()
    assert row == {"step": 3, "site": "h", "value": 0.5}
    assert [type(value) for value in row.values()] == [int, str, float]


def test_concat_requires_the_same_columns() -> None:
    one, two = Table({"a": [1]}), Table({"a": [2, 3]})
    assert Table.concat([one, two]) == Table({"a": [1, 2, 3]})
    assert len(Table.concat([])) == 0
    with pytest.raises(ShapeError, match="got a and b"):
        Table.concat([one, Table({"b": [1]})])


def test_invalid_columns_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'value'"):
        Table({"value": [1.0]})["valu"]
    with pytest.raises(ShapeError, match="a 1, b 2"):
        Table({"a": [1], "b": [1, 2]})
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        Table({"a": np.zeros((2, 2))})


def test_the_repr_of_a_long_table_shows_its_ends() -> None:
    table = Table({"step": np.arange(12_345), "value": np.arange(12_345) / 4})
    assert repr(table).splitlines() == [
        "    step    value",
        "       0        0",
        "       1     0.25",
        "       2      0.5",
        "       3     0.75",
        "       4        1",
        "       …        …",
        "   12340     3085",
        "   12341  3085.25",
        "   12342   3085.5",
        "   12343  3085.75",
        "   12344     3086",
        "12,345 rows",
    ]


def test_html_is_escaped() -> None:
    shown = Table({"<b>": ["</td><script>alert(1)</script>"]})._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "<p>1 row</p>" in shown


def test_pandas_is_imported_only_by_to_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        Table({"a": [1]}).to_pandas()
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = lambda columns: {name: values.tolist() for name, values in columns.items()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    assert Table({"a": [1, 2]}).to_pandas() == {"a": [1, 2]}
