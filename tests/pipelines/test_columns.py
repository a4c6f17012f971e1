"""Columns of numbers and of values with an order, against values by hand."""

import numpy as np
import pytest

from pipelines.columns import Numbers, SortedValues


def test_numbers_come_back_as_columns_of_their_types() -> None:
    numbers = Numbers(index="i", score="d", used="?")
    for index, score, used in ((0, 0.1, True), (7, float("nan"), False)):
        numbers.append(index=index, score=score, used=used)
    columns = numbers.arrays()
    assert columns["index"].tolist() == [0, 7]
    assert columns["index"].dtype == np.int32
    assert np.array_equal(columns["score"], [0.1, np.nan], equal_nan=True)
    assert columns["used"].tolist() == [True, False]
    assert columns["used"].dtype == bool
    with pytest.raises(KeyError):
        Numbers(index="i").append(score=1)


def test_without_rows_columns_are_empty() -> None:
    columns = Numbers(index="i", used="?").arrays()
    assert [(len(column), column.dtype) for column in columns.values()] == [(0, np.int32), (0, bool)]
    values, ranks = SortedValues[str]().finish()
    assert (values, ranks.tolist()) == ([], [])


@pytest.mark.parametrize(
    ("column", "values", "ranks"),
    [
        (["b", "a", "c", "a", "b"], ["a", "b", "c"], [1, 0, 2, 0, 1]),
        ([("ct", 2), ("ct",), ("a", 9)], [("a", 9), ("ct",), ("ct", 2)], [2, 1, 0]),
    ],
)
def test_values_are_ranked_in_their_order(column: list, values: list, ranks: list[int]) -> None:
    sorted_values: SortedValues = SortedValues()
    for value in column:
        sorted_values.append(value)
    found, indices = sorted_values.finish()
    assert (found, indices.tolist()) == (values, ranks)
