"""The page that is made from the rows."""

from fault_parts.summary import summary
from fault_parts.trials import Row


def cells(**changes: object) -> dict[str, str]:
    row = Row(
        **{"kind": "kill", "stage": "split", "trial": 0, "outcome": "ok", "equal_bytes": True, "left_overs": 0}
        | {"seconds": 2.0, "detail": "killed\nafter 1 s"}
        | changes  # type: ignore[arg-type]
    )
    return {name: str(value) for name, value in row.cells().items()}


def test_cells_are_one_line_and_lower_case() -> None:
    assert cells()["detail"] == "killed after 1 s"
    assert cells()["equal_bytes"] == "true"


def test_a_line_for_each_kind_and_what_went_wrong() -> None:
    rows = [
        cells(),
        cells(trial=1, outcome="left over", left_overs=3, detail="a | b"),
        cells(kind="fuzz", stage="images by atheris", detail="atheris: 1200 inputs, 7 refused"),
        cells(kind="fuzz", stage="masks by atheris", detail="atheris: 300 inputs, 7 refused"),
        cells(kind="unhurt", outcome="ended before the kill"),
    ]
    page = summary(rows, "faults.csv").splitlines()
    assert "| kill | SIGKILL of a stage, and the same command again | 150 | 2 | 2 | 1 | 2 | 3 | 4 |" in page
    assert "| fuzz | inputs for the readers, by atheris and hypothesis | 500,000 | 1,500 | 2 | 2 | 2 | 0 | 4 |" in page
    assert "| kill | split | 1 | left over | a \\| b |" in page
    assert not any("ended before" in line for line in page)
    assert summary(rows[:1], "faults.csv").endswith("Every trial came out as promised.\n")
