import pytest
from split_workspace import settings

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.split.config import SplitConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fractions": {"train": 0.8, "validation": 0.1, "test": 0.2}}, "sum to 1, not to 1.1"),
        ({"fractions": {"train": 1.2, "validation": 0, "test": -0.2}}, "0 or more"),
        ({"near_duplicates": {"max_distance": 300, "min_correlation": 0.9}}, "0 to 256"),
        ({"near_duplicates": {"max_distance": 3, "min_correlation": 90}}, "-1 to 1"),
        ({"alow_leaks": []}, "did you mean 'allow_leaks'"),
    ],
)
def test_mistyped_params(change: dict, message: str) -> None:
    values = {
        "seed": 0,
        "fractions": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "near_duplicates": {"max_distance": 48, "min_correlation": 0.93},
        "allow_leaks": [],
    }
    assert parse(SplitConfig, values, "split") == settings()
    with pytest.raises(UserError, match=message):
        parse(SplitConfig, values | change, "split")
