"""The version of panscape, for modules that the package itself imports lazily."""

__version__ = "0.1.0"
