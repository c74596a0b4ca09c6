"""Panoptic annotations in other formats <-> :class:`panscape.PanopticMap`.

Only this package knows how files number their segments and categories: COCO's colours, Cityscapes' thousands, the
number of void, and the ``source_id`` of categories. Readers hand such numbers on; everything else sees maps.
"""

from panscape.codecs.arrays import map_from_arrays as map_from_arrays
from panscape.codecs.arrays import tell_apart as tell_apart
from panscape.codecs.arrays import united_stuff as united_stuff
from panscape.codecs.arrays import whole_numbers as whole_numbers
from panscape.codecs.categories import map_of_categories as map_of_categories
from panscape.codecs.cityscapes import decode_cityscapes as decode_cityscapes
from panscape.codecs.cityscapes import encode_cityscapes as encode_cityscapes
from panscape.codecs.coco import coco_categories as coco_categories
from panscape.codecs.coco import coco_ids as coco_ids
from panscape.codecs.coco import decode_coco as decode_coco
from panscape.codecs.coco import encode_coco as encode_coco
from panscape.codecs.coco import labels_from_coco as labels_from_coco
from panscape.codecs.coco_files import CocoPanopticWriter as CocoPanopticWriter
from panscape.codecs.coco_files import load_coco as load_coco
from panscape.codecs.coco_files import load_coco_json as load_coco_json
from panscape.codecs.coco_files import load_coco_png as load_coco_png
from panscape.codecs.coco_files import save_coco as save_coco
from panscape.codecs.described import DescribedSegment as DescribedSegment
from panscape.codecs.described import different_numbers as different_numbers
from panscape.codecs.described import map_of_numbers as map_of_numbers
from panscape.codecs.label_divisor import decode_label_divisor as decode_label_divisor
from panscape.codecs.label_divisor import encode_label_divisor as encode_label_divisor
from panscape.codecs.sources import load_numbers as load_numbers
