"""Values of options that several commands take."""

import argparse


def size_value(text: str) -> tuple[int, int]:
    """`768x576` -> (768, 576), height and width; an error that argparse shows otherwise."""
    height, _, width = text.partition("x")
    whole = height.isdecimal() and width.isdecimal() and max(len(height), len(width)) <= 5
    if not whole or int(height) * int(width) == 0:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 768x576, found {text!r}")
    return int(height), int(width)


def positive(text: str) -> float:
    """A number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isdecimal() and int(text[:9]) >= 1):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return int(text)
