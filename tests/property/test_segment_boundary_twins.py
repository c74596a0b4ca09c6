import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape.ops.boundaries import segment_boundaries, segment_boundaries_reference


@settings(max_examples=150)
@given(
    height=st.integers(0, 40),
    width=st.integers(0, 40),
    num_segments=st.sampled_from([0, 1, 2, 30]),
    tall=st.integers(1, 15),
    wide=st.integers(1, 15),
    distance=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_equal_to_the_reference(
    height: int, width: int, num_segments: int, tall: int, wide: int, distance: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (height // tall + 1, width // wide + 1)
    drawn = torch.randint(num_segments + 1, shape, generator=generator, dtype=torch.int32)
    ids = drawn.repeat_interleave(tall, 0).repeat_interleave(wide, 1)[:height, :width]
    came = segment_boundaries(ids, distance)
    assert came.dtype == torch.bool
    assert torch.equal(came, segment_boundaries_reference(ids, distance))
