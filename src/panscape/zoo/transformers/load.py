"""Load panoptic networks of transformers; nothing but the files named here is fetched, and no code of theirs is run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from panscape.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    MissingExtraError,
    UnreadableFileError,
    in_one_line,
    listed,
)
from panscape.hub import HUB_PREFIX
from panscape.labels import LabelSpace
from panscape.models.base import INPUT_NORMALIZATIONS, InputNormalization
from panscape.models.transformers_model import FAMILIES, Family, InputSize, TransformersModel
from panscape.representations.queries.representation import STRIDE as OUTPUT_STRIDE
from panscape.zoo.description import parameters_at_most
from panscape.zoo.published.catalogue import find_entry
from panscape.zoo.transformers.files import WEIGHTS, NetworkFiles
from panscape.zoo.transformers.labels import NetworkLabels, labels_of

_logger = logging.getLogger(__name__)

_TASK = "the task is panoptic"
_TASK_LENGTH = 77
_UNUSED = ("criterion.", "text_mapper.", "model.text_mapper.")  # of training alone
_OTHER_TASK = re.compile(r"[-_](semantic|instance)(?![a-z])|facebook/maskformer-.*-ade$")
_DELTA = re.compile(r"network\.|encoder\.backbone\.")
_REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, OSError, ImportError)


def load_transformers(files: NetworkFiles, labels: LabelSpace | str | None = None) -> TransformersModel:
    """Build a network of transformers, load its weights strictly and return the model in eval mode.

    Sizes of images in inference are those that the authors published for the dataset; for a network of other data,
    those of its ``preprocessor_config.json``.

    Args:
        files: of :func:`panscape.zoo.transformers.files.network_files`.
        labels: label space, if the network's categories are not those of COCO panoptic, Cityscapes, ADE20K or Mapillary
            Vistas 1.2; by default that of ``labels.json`` in the folder.

    Raises:
        MissingExtraError: transformers is not installed.
        InvalidArgumentError: the network is of no family that is read here, was trained for another task, has other
            masks than panscape reads, or its label space is not known.
        UnreadableFileError: a file is missing, damaged or cannot be fetched.
        CheckpointMismatchError: the weights are not those of the network.
    """
    family = _family(files)
    # The configuration has no entry for the task that the weights were trained for, but the names on the hub do.
    found = _OTHER_TASK.search(files.repository) if files.folder is None else None
    _require_panoptic(files, (found[1] or "semantic") if found else None)
    network_class = _network_class(files)
    config = _config(network_class, files)
    space = _labels(files, config, family, labels)
    processor = files.processor
    _require_panoptic(files, "semantic" if processor.get("do_split_image") else None)
    task = _task_tokens(files, config) if family.has_task else []
    size = _input_size(files, space.labels, processor, config, family)
    network = _with_weights(network_class, config, files)
    if family.is_square:
        _fix_attention_masks(network, files)
    model = TransformersModel(
        network, space.labels, size, source=space.source, normalization=_normalization(files, processor), task=task
    )
    model.card = {**transformers_card(files), "data": space.labels.name}
    note = f"; {model.card['licence']}" if "licence" in model.card else ""
    _logger.info("%s: %s, %d categories of %s%s", files.name, family.name, len(model.labels), model.labels.name, note)
    return model.eval()


def transformers_card(files: NetworkFiles) -> dict[str, Any]:
    """Return the facts of a network that are known without its weights.

    Raises:
        InvalidArgumentError: the network is of no family that is read here.
    """
    card: dict[str, Any] = {"system": _family(files).name, "class of transformers": _architecture(files)}
    if files.folder is None:
        card["source"] = f"https://huggingface.co/{files.repository}"
        entry = find_entry(f"{HUB_PREFIX}{files.repository}")
        if entry is not None and entry.publisher.licence is not None:
            card["licence"] = entry.publisher.licence
    else:
        card["source"] = str(files.folder)
    return card


def _architecture(files: NetworkFiles) -> str:
    """Return the name of the class of transformers; of its kind if only that is known."""
    found = files.config.get("architectures")
    return str(found[0]) if isinstance(found, list) and found else str(files.config.get("model_type", ""))


def _family(files: NetworkFiles) -> Family:
    name = _architecture(files)
    if not name:
        raise InvalidArgumentError(
            f"expected a class of transformers as architectures in config.json of {files.name}, got none; it is of "
            "another library, or in the layout of its authors: convert it with transformers"
        )
    if name not in FAMILIES:
        raise InvalidArgumentError(
            f"expected a panoptic network of transformers in {files.name}, one of {', '.join(FAMILIES)}, got {name}, "
            "which has no panoptic output that is read here"
        )
    return FAMILIES[name]


def _require_panoptic(files: NetworkFiles, task: str | None) -> None:
    if task is not None:
        raise InvalidArgumentError(
            f"expected weights for panoptic segmentation, got those of {files.name} for {task} segmentation; use those "
            "whose name has panoptic in its place"
        )


def _network_class(files: NetworkFiles) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "transformers", f"loading {files.name}") from error
    try:
        return getattr(transformers, _architecture(files))
    except (AttributeError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"expected a version of transformers with {_architecture(files)}, got {transformers.__version__}; update it"
        ) from error


def _config(network_class: Any, files: NetworkFiles) -> Any:
    """Return the configuration of a network that fetches nothing."""
    content = deepcopy(dict(files.config))
    _without_pretrained(content)
    # The backbone of a DETR is one of timm by default; the configuration of others would be fetched by their name.
    is_of_timm = content.get("use_timm_backbone", files.config.get("model_type") == "detr")
    if content.get("backbone_config") is None and content.get("backbone") and not is_of_timm:
        raise InvalidArgumentError(
            f"expected the configuration of the backbone in {files.name}, got only its name {content['backbone']!r}; "
            "load the network once with transformers, and save it with save_pretrained"
        )
    try:
        with quiet_transformers():
            config = network_class.config_class.from_dict(content)
    except _REFUSALS as error:
        raise UnreadableFileError(
            files.name, f"expected a configuration of {_architecture(files)} in config.json, but {in_one_line(error)}"
        ) from error
    if hasattr(config, "is_training"):
        config.is_training = False  # OneFormer's text encoder is used in training alone
    return config


def _without_pretrained(content: dict[str, Any]) -> None:
    """Clear requests for the weights of a backbone, which are among those of the network."""
    for name, value in content.items():
        if name == "use_pretrained_backbone":
            content[name] = False
        elif isinstance(value, dict):
            _without_pretrained(value)


def _labels(files: NetworkFiles, config: Any, family: Family, labels: LabelSpace | str | None) -> NetworkLabels:
    given = files.labels or labels
    space = None if given is None else given if isinstance(given, LabelSpace) else LabelSpace.load(given)
    names = config.id2label
    listing = [str(names[i]) for i in range(len(names))] if {*names} == {*range(len(names))} else []
    if len(listing) < 1:
        raise UnreadableFileError(
            files.name, f"expected id2label of config.json with ids from 0 on, got {listed(list(names))}"
        )
    return labels_of(listing, files.name, space, uses_source_ids=family.uses_source_ids)


def _input_size(
    files: NetworkFiles, labels: LabelSpace, processor: Mapping[str, Any], config: Any, family: Family
) -> InputSize:
    if family.is_square:
        side, cell = _side(config.image_size), _side(config.patch_size)
        if side is None or cell != OUTPUT_STRIDE * 2**config.num_upscale_blocks:
            raise InvalidArgumentError(
                f"expected a square input and masks at stride {OUTPUT_STRIDE} of {files.name}, got image_size "
                f"{config.image_size}, patch_size {config.patch_size} and num_upscale_blocks "
                f"{config.num_upscale_blocks}"
            )
        return InputSize(side, side)
    published = InputSize.published(labels)
    if published is not None:
        return published
    size = processor.get("size", {})
    sides = {key: value for key, value in size.items() if isinstance(value, int)} if isinstance(size, Mapping) else {}
    if {"height", "width"} <= sides.keys():
        return InputSize(min(sides.values()), max(sides.values()), (sides["height"], sides["width"]))
    shortest = sides.get("shortest_edge", 800)
    return InputSize(shortest, sides.get("longest_edge", max(1333, shortest)))


def _side(value: int | Sequence[int]) -> int | None:
    """Return the side of a square that is given by one or two of them; None if it is none."""
    sides = {value} if isinstance(value, int) else {*value}
    return sides.pop() if len(sides) == 1 else None


def _normalization(files: NetworkFiles, processor: Mapping[str, Any]) -> InputNormalization:
    if processor.get("do_normalize") is False:
        return INPUT_NORMALIZATIONS["unit"]
    imagenet = INPUT_NORMALIZATIONS["imagenet"]
    found = [processor.get(key, own) for key, own in (("image_mean", imagenet.mean), ("image_std", imagenet.std))]
    try:
        mean, std = (tuple(float(value) for value in values) for values in found)
    except (TypeError, ValueError):
        mean, std = (), ()
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UnreadableFileError(
            files.name, f"expected image_mean and image_std of three channels, got {found[0]!r} and {found[1]!r}"
        )
    return InputNormalization(mean, std)


def _task_tokens(files: NetworkFiles, config: Any) -> list[int]:
    """Return the tokens of the task as the network expects them: padded with zeros."""
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer

    paths = files.tokenizer()
    try:
        if len(paths) == 1:
            found = Tokenizer.from_file(str(paths[0])).encode(_TASK).ids
        else:
            found = CLIPTokenizer(*map(str, paths))(_TASK)["input_ids"]
    except Exception as error:  # that of the tokenizers' own code is no narrower
        raise UnreadableFileError(paths[0], f"expected a tokenizer of CLIP, but {in_one_line(error)}") from error
    length = int(getattr(config, "task_seq_len", _TASK_LENGTH))
    return [*found, *[0] * (length - len(found))][:length]


def _with_weights(network_class: Any, config: Any, files: NetworkFiles) -> nn.Module:
    tensors = files.read_weights()
    try:
        with quiet_transformers(), parameters_at_most(100 + 4 * len(tensors)):
            _require_size(network_class, config, tensors)
            network, report = network_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to name all of them
                dtype=torch.float32,
            )
    except _REFUSALS as error:
        raise UnreadableFileError(
            files.name, f"expected weights of {network_class.__name__}, but {in_one_line(error)}"
        ) from error
    misshapen = {
        f"{name}: expected {list(needed)}, found {list(got)}" for name, got, needed in report["mismatched_keys"]
    }
    missing = set(report["missing_keys"])
    unused = {name for name in report["unexpected_keys"] if not name.startswith(_UNUSED)}
    if missing or misshapen:
        remedy = "use the files that transformers' save_pretrained writes"
        if any(_DELTA.match(name) for name in unused):
            remedy = (
                "these are weights in the layout of EoMT's authors, perhaps only differences to a backbone of DINOv3; "
                f"convert them with transformers, and save them with save_pretrained (one of {', '.join(WEIGHTS)})"
            )
        raise CheckpointMismatchError(files.name, missing=missing, unused=unused, misshapen=misshapen, remedy=remedy)
    if unused:  # files of older versions have constants that are computed now
        _logger.info("%s: %d tensors are not used: %s", files.name, len(unused), listed(sorted(unused)))
    _require_finite(network, files)
    return network  # type: ignore[no-any-return]


def _require_size(network_class: Any, config: Any, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a configuration of a much larger network than that of the weights before memory is allocated."""
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in network_class(config).parameters())
    found = sum(tensor.numel() for tensor in tensors.values())
    if needed > 2 * found:
        raise InvalidArgumentError(f"config.json describes a network of {needed} numbers, and the weights have {found}")


def _require_finite(network: nn.Module, files: NetworkFiles) -> None:
    wrong = [name for name, tensor in network.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise UnreadableFileError(files.name, f"expected finite weights, but {listed(wrong)} contain nan or infinity")


def _fix_attention_masks(network: nn.Module, files: NetworkFiles) -> None:
    """Let a network of EoMT decide without random numbers which blocks have masked attention.

    The probability of each block is 0 in published weights, after a training that reduces it. Its code compares a
    tensor, which cannot be exported, and draws random queries for values between 0 and 1.
    """
    probabilities: Tensor = network.attn_mask_probs  # type: ignore[assignment]
    is_masked = (probabilities >= 0.5).float()
    if not torch.equal(is_masked, probabilities):
        _logger.warning(
            "%s: its training ended with masked attention in a part of the queries, %s; it is %s",
            files.name,
            [round(value, 3) for value in probabilities.tolist()],
            ["off", "on"][int(is_masked.amax())],
        )
    probabilities.copy_(is_masked)
    # Its code finds this attribute before the buffer, which stays for save_pretrained.
    network.__dict__["attn_mask_probs"] = is_masked.tolist()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Drop progress bars and reports of transformers; errors have what matters."""
    from transformers.utils import logging as messages_of_transformers

    messages: Any = messages_of_transformers
    level, has_bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(messages.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if has_bars:
            messages.enable_progress_bar()
