"""The base of datasets whose images and annotations are files."""

from __future__ import annotations

from collections.abc import Sequence

from panscape.datasets.base import MapSources, Sample
from panscape.datasets.file_pairs import Pair, load_pair, load_truth
from panscape.datasets.splits import ImageFile
from panscape.formats.reading.base import AnnotationSource
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


class PairedDataset:
    """Pairs of an image and an annotation in a common source, which each dataset finds in its constructor.

    Attributes:
        labels: the categories.
        apply_orientation: see :func:`panscape.images.load_image`.
        bit_depth: likewise.
    """

    labels: LabelSpace
    apply_orientation: bool = True
    bit_depth: int | None = None
    _pairs: Sequence[Pair]
    _source: AnnotationSource

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def image_files(self) -> list[ImageFile]:
        """The image files without ground truth, in the order of the samples."""
        return [ImageFile(pair.name, pair.image) for pair in self._pairs]

    def __getitem__(self, index: int) -> Sample:
        return load_pair(
            self._pairs[index],
            self._source,
            self.labels,
            apply_orientation=self.apply_orientation,
            bit_depth=self.bit_depth,
        )

    def truth_of(self, index: int) -> PanopticMap:
        """Return the map at ``index`` without reading the image."""
        return load_truth(self._pairs[index], self._source, self.labels)

    def map_sources(self) -> MapSources:
        """Return the annotation files, by which a cache of the maps' segments is recognised."""
        return MapSources([pair.truth.content for pair in self._pairs])
