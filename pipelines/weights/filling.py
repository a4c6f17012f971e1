"""A model filled with renamed weights: with all that it has, and no others."""

from collections.abc import Mapping

from torch import Tensor, nn

from pipelines.errors import UserError


def fill(model: nn.Module, weights: Mapping[str, Tensor], fault: str) -> None:
    """Load the weights into the model.

    Args:
        model: Changed in place.
        weights: By the model's own names.
        fault: How the error begins.

    Raises:
        UserError: Some are missing, are left over, or have another shape; one line that names them.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{fault}: {' '.join(str(error).split())[:300]}") from None
