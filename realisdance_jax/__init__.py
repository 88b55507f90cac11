"""RealisDance in JAX/Flax: controllable character animation with realistic hands."""

__version__ = "0.1.0"
