from __future__ import annotations

import pytest

from panscape.cli.data_arguments import split


@pytest.mark.parametrize(
    ("arguments", "others", "taken"),
    [
        (["run", "--data.void", "0", "--json"], ["run", "--json"], ["--data.void", "0"]),
        (["--data.void", "-1", "run"], ["run"], ["--data.void", "-1"]),
        (["--data.void=0", "run"], ["run"], ["--data.void=0"]),
        (["--data.size", "64", "96", "run"], ["run"], ["--data.size", "64", "96"]),
        (["--data.no-apply-orientation", "run"], ["run"], ["--data.no-apply-orientation"]),
        (["--data.help", "run"], ["run"], ["--data.help"]),
        (["--data.kind", "a", "b"], ["b"], ["--data.kind", "a"]),
        (["--data.kind", "--json", "a"], ["--json", "a"], ["--data.kind"]),
    ],
)
def test_options_of_the_dataset_are_taken_out(arguments, others, taken):
    assert split(arguments) == (others, tuple(taken))
    model = [argument.replace("--data.", "--model.") for argument in arguments]
    assert split(model, "--model.") == (others, tuple(word.replace("--data.", "--model.") for word in taken))
