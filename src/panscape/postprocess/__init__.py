"""Post-processing for the outputs of any network: plain tensors in, a :class:`~panscape.PanopticMap` out.

One function for each way of predicting objects: :func:`map_from_queries` (MaskFormer, Mask2Former, OneFormer, EoMT,
DETR), :func:`map_from_centers` (Panoptic-DeepLab), :func:`map_from_detections` (Panoptic FPN, Seamless) and
:func:`map_from_dense_boxes` (dense detections). They decode as panscape's models do, and share these rules:

- Outputs are those of *one* image, as torch tensors on any device or as NumPy arrays, in any floating type and layout.
  Of a batch, give one image after the other: ``map_from_queries(logits[i], masks[i], sizes[i], ...)``.
- ``size`` is the height and width of the map. If the image was resized for the network, ``inference_size`` is its size
  there; if it was then padded on the right and at the bottom, ``padded_size`` is that of the network's input. Outputs
  cover the padded input, and the padding is removed.
- ``labels`` is the label space of the categories, or the name of a bundled one. Without one, ``things`` are the
  categories that are countable objects, and the map has no labels.
- Further options are those of the decoding class by name, as ``model.set_decoding`` takes them.

The map converts to the types of other libraries: ``to_transformers()``, ``to_detectron2()``, ``to_coco()``.
"""

from panscape.postprocess.centers import map_from_centers as map_from_centers
from panscape.postprocess.dense_boxes import map_from_dense_boxes as map_from_dense_boxes
from panscape.postprocess.detections import map_from_detections as map_from_detections
from panscape.postprocess.queries import map_from_queries as map_from_queries
