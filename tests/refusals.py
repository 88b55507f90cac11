"""How the library refuses bad input: a `UserError` of one line."""

from collections.abc import Callable
from typing import Any

import pytest

from realisdance_jax.utils.errors import UserError


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one line with which this call is refused."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    line = str(caught.value)
    assert line.isprintable()
    return line
