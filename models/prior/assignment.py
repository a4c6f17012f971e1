"""Which query stands for which sentence: the assignment of the least total cost (Kuhn 1955; Munkres 1957)."""

import numpy as np


def assign(cost: np.ndarray) -> list[int]:
    """The row of each column, so that the sum of the costs is the least.

    Columns come one after another; each finds the cheapest path of exchanges to a row that is free, by costs less the
    prices of rows and columns.

    Args:
        cost: (rows, columns), as many rows as columns or more, all finite.
    """
    rows, columns = cost.shape
    prices, of_columns = np.zeros(rows), np.zeros(columns)
    # The column of each row; `columns` where it is free.
    owner = np.full(rows, columns)
    for new in range(columns):
        distance, reached_from = np.full(rows, np.inf), np.full(rows, -1)
        done = np.zeros(rows, dtype=bool)
        column, row, total = new, -1, 0.0
        while column < columns:
            reduced = total + cost[:, column] - of_columns[column] - prices
            nearer = ~done & (reduced < distance)
            distance[nearer], reached_from[nearer] = reduced[nearer], row
            row = int(np.where(done, np.inf, distance).argmin())
            total = distance[row]
            done[row] = True
            column = owner[row]
        of_columns[new] += total
        for one in np.flatnonzero(done):
            if owner[one] < columns:
                of_columns[owner[one]] += total - distance[one]
            prices[one] -= total - distance[one]
        while row >= 0:
            before = reached_from[row]
            owner[row] = owner[before] if before >= 0 else new
            row = before
    found = [0] * columns
    for row, column in enumerate(owner.tolist()):
        if column < columns:
            found[column] = row
    return found
