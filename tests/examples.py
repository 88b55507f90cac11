"""How many examples hypothesis makes up, the same ones in every run."""

from hypothesis import settings


def few(count: int) -> settings:
    """`count` of them, each as slow as it likes: some compile."""
    return settings(max_examples=count, derandomize=True, deadline=None)
