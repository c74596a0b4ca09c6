from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape.ops.contingency_table import contingency_table, contingency_table_reference


@settings(max_examples=150)
@given(
    height=st.integers(0, 30),
    width=st.integers(0, 30),
    num_truth=st.sampled_from([0, 1, 7, 300, 5000, 2_000_000]),
    num_prediction=st.sampled_from([0, 1, 7, 300, 5000, 2_000_000]),
    run=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_equal_to_the_reference_and_to_counting(
    height: int, width: int, num_truth: int, num_prediction: int, run: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> torch.Tensor:
        drawn = torch.randint(count + 1, (height, width // run + 1), generator=generator, dtype=torch.int32)
        return drawn.repeat_interleave(run, 1)[:, :width]

    truth, prediction = ids(num_truth), ids(num_prediction)
    came = contingency_table(truth, prediction, num_truth, num_prediction)
    for part, expected in zip(
        came, contingency_table_reference(truth, prediction, num_truth, num_prediction), strict=True
    ):
        assert part.dtype == expected.dtype
        assert torch.equal(part, expected)
    pairs = Counter(zip(truth.flatten().tolist(), prediction.flatten().tolist(), strict=True))
    assert [(a, b, n) for (a, b), n in sorted(pairs.items())] == list(
        zip(*(part.tolist() for part in came), strict=True)
    )
