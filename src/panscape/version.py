"""The version of panscape, for modules that the package itself imports lazily."""

VERSION = "0.1.0"
